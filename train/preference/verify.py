"""`python -m train.preference.verify BUNDLE --data DIR`: whether its ranker behaves as people do.

Behaviour against observed rates, blocks, mutes and follows that never happened, swapped histories
and probes of vectors, each beside a control, from the bundle's outputs alone on the test split of
the data it was trained on. Prints a page; with --out writes verify.json and verify.md. Exit code:
0 = the bar is met, 1 = it is missed, 2 = cannot be measured or written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipelines.facts import Facts
from pipelines.features import history_inputs
from pipelines.prepared import read_manifest
from pipelines.schema import SPLITS
from pipelines.whole import save_json, save_text
from train import bundle as bundles
from train.bundle import Bundle, BundleError
from train.evaluate import predict
from train.models.ranker import Ranker
from train.models.tokens import tensors
from train.preference.counterfactuals import Posts
from train.preference.verification import PLACEBO, home_topics, probe, verification
from train.report import plain, text
from train.report_tables import Lines, table
from train.rows import Past, read_examples

_ACT_COLUMNS = ("moved", "beyond_seen", "placebo", "other_author")
_PROBED = 1_000  # vectors of each kind


def verify(bundle: Bundle, data: Path, num_viewers: int = 200, seed: int = 0) -> dict[str, Any]:
    """All tests on the test split.

    Args:
        bundle: with a ranker that has learned actions.
        data: what it was trained on.
        num_viewers: at most so many are asked what a block would change.
        seed: of the draws.

    Raises:
        BundleError: other data, or a ranker that predicts no action.
        ValueError: the test split has no case.
    """
    manifest = read_manifest(data)
    if manifest["fingerprint"] != bundle.card["data_fingerprint"]:
        raise BundleError(f"{bundle.path}: not trained on {data}; give its own data")
    ranker = bundle.load_ranker()
    if not isinstance(ranker, Ranker):
        raise BundleError(f"{bundle.path}: its ranker has learned no actions")
    facts, observed = Facts.load(data), bundle.card["observed_actions"]
    examples = read_examples(data, "test")
    posts = Posts.of(pq.read_table(data / "posts.parquet"))
    past = Past.of(read_examples(data, *SPLITS))
    asked = partial(ask, ranker, facts)
    found = verification(asked, observed, examples, past, posts, num_viewers, seed)
    probes = _probes(bundle, facts, examples, posts, seed)
    return plain({"bundle": bundle.path, **found, "probes": probes})


def markdown(found: Mapping[str, Any]) -> str:
    """The page of what `verify` found."""
    verdict = {None: "not measured: no block was learned", True: "met", False: "**MISSED**"}
    lines = [
        f"# Verification of {found['bundle']}",
        "",
        f"Block rate less placebo {text(found['block_less_placebo'])}, bar {found['bar']}: "
        f"{verdict[found['met']]}. {found['viewers']} viewers of the test days, each with an "
        "author of whom nothing was shown to them before.",
        "",
    ]
    rows = [
        (name, of["silhouette"], of["by_chance"], of["num"]) for name, of in found["probes"].items()
    ]
    lines += [*sections(found), *table(("probe", "silhouette", "by chance", "vectors"), rows)]
    return "\n".join(lines)


def sections(found: Mapping[str, Any]) -> Lines:
    """Tables of what `verification` found."""
    columns = (
        *("act", "moves the author's other posts as it should"),
        *("… against the same post merely seen", f"placebo ({PLACEBO})"),
    )
    rows = [
        (name, *(_share(of[key]) for key in _ACT_COLUMNS))
        for name, of in found["counterfactuals"].items()
    ]
    lines = table((*columns, "same act, unrelated author"), rows)
    flipped = found["flips"]
    lines += table(
        ("swapped histories", "share"),
        [
            ("own history puts own topic first", _share(flipped["own_first"])),
            ("then another topic's viewer's history turns it", _share(flipped["flipped"])),
            ("control: history of a viewer of the same topic", _share(flipped["control"])),
        ],
    )
    lines += table(("behaviour", "value"), list(found["behaviour"].items()))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify from the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.preference.verify", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("bundle")
    parser.add_argument("--data", type=Path, required=True, help="what it was trained on")
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for verify.json and verify.md")
    args = parser.parse_args(arguments)
    if args.viewers < 1:
        parser.error(f"--viewers: {args.viewers}: expected at least 1")
    try:
        found = verify(bundles.load(args.bundle), args.data, args.viewers, args.seed)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    page = markdown(found)
    print(page)
    if args.out is not None:
        try:
            args.out.mkdir(parents=True, exist_ok=True)
            save_json(args.out / "verify.json", found)
            save_text(args.out / "verify.md", page)
        except OSError as error:
            print(f"{args.out}: cannot be written ({error})", file=sys.stderr)
            return 2
    return 1 if found["met"] is False else 2 if found["met"] is None else 0


def ask(ranker: Ranker, facts: Facts, examples: pa.Table) -> np.ndarray:
    """What it predicts of every candidate of the examples. [rows, A]."""
    return predict(ranker, examples, facts, quiet=True)


def _probes(
    bundle: Bundle, facts: Facts, examples: pa.Table, posts: Posts, seed: int
) -> dict[str, Any]:
    """Viewers by home topic and posts by topic, in the towers' space."""
    rng, home = np.random.default_rng(seed), home_topics(examples, posts)
    towers, index = bundle.load_two_tower(), bundle.load_index()
    rows = rng.permutation(np.flatnonzero(home > 0))[:_PROBED]
    inputs = history_inputs(examples.take(rows), towers.config.features, facts)
    with torch.inference_mode():
        viewers = towers.user(tensors(inputs)).numpy()
    topic = posts.topic_of(index.post_id)
    some = rng.permutation(np.flatnonzero(topic > 0))[:_PROBED]
    return {
        "viewers by home topic": probe(viewers, home[rows], seed),
        "posts by topic": probe(index.stored()[some], topic[some], seed),
    }


def _share(row: Mapping[str, float] | None) -> str | None:
    if row is None or not row["num"]:
        return None
    return f"{row['share']:.3f} ({row['low']:.3f} to {row['high']:.3f}, n {row['num']})"


if __name__ == "__main__":
    sys.exit(main())
