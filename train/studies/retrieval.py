"""Which posts are found: the two towers on every protocol, beside their baselines.

`python -m train configs/retrieval/base.yaml` writes train/reports/retrieval.json. A part whose
data is not there is left out, and the report says what to fetch.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
from pydantic import Field

from configs import Config
from pipelines.data.reader import InputError
from pipelines.facts import Facts
from train.evaluate import evaluate_retrieval
from train.index import index_posts
from train.loop import TrainConfig
from train.models.retrieval import TwoTower
from train.models.text_towers import TextTowers
from train.report import REPORTS, header, write
from train.rows import read_examples
from train.studies import ActionName, Study
from train.studies.cold_start import ColdStart, cold_start
from train.studies.content import Content, content
from train.studies.next_item import NextItem, next_item
from train.studies.prefix_towers import PrefixTowers, prefix_towers
from train.studies.seeds import Results, fit_seeds, load_run, prepared, stories

_METRICS = {
    "recall@10": "recall10",
    "recall@100": "recall100",
    "hit_rate@10": "hr10",
    "ndcg@10": "ndcg10",
}


class NextVisits(Config):
    """Training on the past of a log, visits of its last days as questions."""

    data: str  # a file of configs/data/, split in time
    run: TrainConfig
    relevant: ActionName = "click"  # the action that makes a shown post right


class RetrievalStudy(Study):
    """Every protocol; null leaves one out."""

    study: Literal["retrieval"]
    next_item: NextItem | None = None
    next_visits: dict[str, NextVisits] = Field(default={})
    content: Content | None = None
    cold_start: ColdStart | None = None
    prefix_towers: PrefixTowers | None = None


def retrieval(study: RetrievalStudy) -> Path:
    """Run all parts and write the report after each; returns its page.

    Raises:
        ValueError: a part failed; the others are in the report.
    """
    parts: dict[str, Any] = {}
    if study.next_item:
        parts["next_item"] = (next_item, study.next_item)
    for name, settings in study.next_visits.items():
        parts[name] = (next_visits, settings)
    if study.content:
        parts["content"] = (content, study.content)
    if study.cold_start:
        parts["cold_start"] = (cold_start, study.cold_start)
    if study.prefix_towers:
        parts["prefix_towers"] = (prefix_towers, study.prefix_towers)
    if not parts:
        raise ValueError(f"{study.report}: every part is left out")
    results: Results = {}
    failed = []
    origin = header("", seeds=study.seeds)  # of the code as it is now, before reports change
    for name, (run, settings) in parts.items():
        try:
            results[name] = run(settings, study.seeds)
        except InputError as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            results[name] = {"left_out": str(error)}
        except Exception as error:  # hours of other parts must not be lost with it
            traceback.print_exc()
            results[name] = {"failed": repr(error)}
            failed.append(name)
        origin["data_fingerprint"] = ", ".join(_fingerprints(results))
        page = write(study.report, {"header": origin, **results}, REPORTS)
    if failed:
        raise ValueError(f"{page}: written, but {' and '.join(failed)} failed; see above")
    return page


def next_visits(settings: NextVisits, seeds: tuple[int, ...]) -> Results:
    """Posts found for visits after training, over all posts, without those seen before.

    Returns:
        model or baseline -> recall10, recall100, hr10, ndcg10, the model's with spread over
        seeds; difference -> to the best baseline, with its 95 % interval over viewers.
    """
    data = prepared(settings.data)
    facts, posts = Facts.load(data), pq.read_table(data / "posts.parquet")
    before, test = read_examples(data, "train", "validate"), read_examples(data, "test")
    folders = fit_seeds(settings.run, data, seeds)
    runs = []
    for folder in folders:
        towers = load_run(folder, data)
        assert isinstance(towers, TwoTower | TextTowers)
        runs.append((towers, index_posts(towers, posts, facts)))
    found = evaluate_retrieval(runs, facts, before, test, settings.relevant)
    results: Results = {"queries": found["queries"], "model": {}, "difference": {}}
    for metric, short in _METRICS.items():
        row = dict(found[metric])
        results["difference"][short] = {
            key: row.pop(key) for key in ("best_baseline", "difference", "interval")
        }
        results["model"][short] = row.pop("model")
        if "model_spread" in row:
            results["model"][f"{short}_spread"] = row.pop("model_spread")
        for name, value in row.items():
            results.setdefault(name, {})[short] = value
    results["runs"] = stories(folders)
    return results


def _fingerprints(results: Any) -> list[str]:
    """Of the data that the runs were made from, each once."""
    if not isinstance(results, dict):
        return []
    own = [results["data_fingerprint"]] if "data_fingerprint" in results else []
    inner = (found for value in results.values() for found in _fingerprints(value))
    return sorted({*own, *inner})
