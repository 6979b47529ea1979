"""One head of a study: its data, its training and what is measured, kept by what it was made from.

Axes: N texts, E width of the encoder, L levels.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor

from configs import Config
from pipelines.whole import new_file, save_json
from train.models.prefix import truncate
from train.prefix import fan_out
from train.prefix.labelled import Sizes, draw, held_out_fine, noisy, random_groups
from train.prefix.measure import knn_curve, measure, measure_unseen
from train.prefix.objectives import FitConfig
from train.prefix.training import fit_head

Record = dict[str, Any]
Items = dict[str, NDArray]
RAW = "raw"  # the condition that is the encoder itself: every prefix is its whole vector
_VERSION = 1  # of what is measured; another one measures all heads anew


class Job(Config):
    """One head: of which texts, taught how, and what is changed about its labels."""

    set: str
    sizes: Sizes
    seed: int
    fit: FitConfig | None  # None = the encoder itself
    super_domains: bool = False  # with a third, coarser level
    groups: PositiveInt | None = None  # so many random groups of fine labels are the coarse ones
    noise: float = Field(default=0.0, ge=0, lt=1)  # share of coarse training labels that are wrong
    unseen: float = Field(default=0.0, ge=0, lt=1)  # share of fine labels that training never sees
    uses: bool = True  # measure retrieval and routing, too

    @property
    def condition(self) -> str:
        """Name of what is taught."""
        return self.fit.condition if self.fit else RAW

    def key(self, fingerprint: str) -> str:
        """Tells results apart; the same for equal jobs on equal data."""
        said = f"{_VERSION} {fingerprint} {self.model_dump_json()}"
        return f"{self.condition}-{self.seed}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class SetData:
    """What heads of one set are made from.

    Attributes:
        features: float32 [N, E].
        labels: coarse and fine, int64 [N, 2].
        test: as in LabelledTexts.
        fingerprint: of all that.
        super_domain: of each coarse label; None = the set has no third level.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    test: NDArray[np.bool_] | None
    fingerprint: str
    super_domain: NDArray[np.int64] | None = None


Runner = Callable[
    [Sequence[Job], Mapping[str, SetData]], Iterator[tuple[int, tuple[Record, Items]]]
]


def run(job: Job, data: SetData) -> tuple[Record, Items]:
    """Train a head and measure it on held-out texts, which nothing before has looked at.

    Wrong labels are of the training alone: what is measured, and the labels of neighbours, are
    the true ones.

    Returns:
        The record, of plain values; and by name one value for each test text, `row` saying which
        text of the set it is.
    """
    torch.set_num_threads(1)
    started = time.process_time()
    labels = _labels(job, data)
    split = draw(data.test, len(labels), job.sizes, job.seed)
    train, out = split.train, np.empty(0, np.int64)
    if job.unseen:
        out = held_out_fine(labels[:, -2:], job.unseen, job.seed)
        train = train[~np.isin(labels[train, -1], out)]
    record: Record = {"num_train": len(train), "num_test": len(split.test)}
    keys, queries, story = _prefixes(job, data.features, labels, train, split.test)
    record |= story
    with torch.inference_mode():
        if job.unseen:
            unseen = np.isin(labels[split.test, -1], out)
            found = split.test[unseen]
            inner = [vectors[torch.from_numpy(unseen)] for vectors in queries]
            record["unseen"] = {
                "num": int(unseen.sum()),
                "knn_train_l0": knn_curve(keys, labels[train, 0], inner, labels[found, 0]),
                "r_precision": measure_unseen(queries, labels[split.test], unseen),
            }
            items: Items = {}
        else:
            measured, items = measure(keys, labels[train], queries, labels[split.test], job.uses)
            record |= measured
    record["seconds"] = time.process_time() - started  # of this process's CPU time
    return record, items | {"row": split.test}


def _labels(job: Job, data: SetData) -> NDArray[np.int64]:
    labels = data.labels
    if job.groups:
        num_fine = int(labels[:, 1].max()) + 1
        group = random_groups(num_fine, job.groups, job.seed + job.groups)
        labels = np.stack([group[labels[:, 1]], labels[:, 1]], axis=1)
    if job.super_domains:
        if data.super_domain is None:
            raise ValueError(f"{job.set}: has no third level of labels")
        labels = np.concatenate([data.super_domain[labels[:, :1]], labels], axis=1)
    return labels


def _prefixes(
    job: Job,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> tuple[list[Tensor], list[Tensor], Record]:
    """Vectors of training and test texts at each prefix, and how they came to be."""
    x, y = torch.from_numpy(features[train]), torch.from_numpy(features[test])
    if job.fit is None:
        return [x, x], [y, y], {"sizes": [features.shape[1]] * 2}
    taught = labels[train]
    if job.noise:
        taught = taught.copy()
        taught[:, 0] = noisy(taught[:, 0], job.noise, job.seed)
    head = fit_head(x, taught, job.fit, job.seed)
    blocks = job.fit.block_sizes
    lengths = range(1, len(blocks) + 1)
    keys, queries = ([head.prefix(part, j) for j in lengths] for part in (x, y))
    exact = all(torch.equal(truncate(queries[-1], blocks, j), queries[j - 1]) for j in lengths)
    return (
        keys,
        queries,
        {
            "sizes": np.cumsum(blocks).tolist(),
            "num_parameters": sum(p.numel() for p in head.head.parameters()),
            "kept_epoch": head.kept,
            "fit_s": head.seconds,
            "exact_truncation": exact,
        },
    )


class Kept:
    """Results that are there already, one file a head, so that a stopped study goes on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, job: Job, data: SetData) -> tuple[Record, Items] | None:
        """What `save` kept; None if that job was not run on that data."""
        path = self._path(job, data)
        try:
            record = json.loads(path.with_suffix(".json").read_text())
            with np.load(path.with_suffix(".npz")) as items:
                return record, dict(items)
        except (OSError, ValueError):
            return None

    def save(self, job: Job, data: SetData, result: tuple[Record, Items]) -> None:
        """Keep the result of a job: the record last, so that it is never alone."""
        path = self._path(job, data)
        path.parent.mkdir(parents=True, exist_ok=True)
        record, items = result
        with new_file(path.with_suffix(".npz")) as file:
            np.savez(file, **items)  # type: ignore[arg-type]
        save_json(path.with_suffix(".json"), record)

    def _path(self, job: Job, data: SetData) -> Path:
        return self.folder / job.set / job.key(data.fingerprint)


def results(
    jobs: Sequence[Job], data: Mapping[str, SetData], kept: Kept, runner: Runner
) -> list[tuple[Record, Items]]:
    """The result of each job, of which those that were kept are not run again."""
    found = [kept.load(job, data[job.set]) for job in jobs]
    missing = [at for at, result in enumerate(found) if result is None]
    for done, result in runner([jobs[at] for at in missing], data) if missing else ():
        kept.save(jobs[missing[done]], data[jobs[missing[done]].set], result)
        found[missing[done]] = result
    return [result for result in found if result is not None]


def in_process(
    jobs: Sequence[Job], data: Mapping[str, SetData]
) -> Iterator[tuple[int, tuple[Record, Items]]]:
    """The `Runner` that is this process."""
    return ((at, run(job, data[job.set])) for at, job in enumerate(jobs))


def over_cluster(
    jobs: Sequence[Job], data: Mapping[str, SetData]
) -> Iterator[tuple[int, tuple[Record, Items]]]:
    """The `Runner` of a Ray cluster, a head a CPU or GPU; shows progress."""
    shared = {name: fan_out.put(data[name]) for name in {job.set for job in jobs}}
    return fan_out.over_cluster(
        run,
        [(job, shared[job.set]) for job in jobs],
        [job.fit.device if job.fit else "cpu" for job in jobs],
        [f"{job.set} {job.condition} {job.seed}" for job in jobs],
    )
