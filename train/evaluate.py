"""How good a bundle is on the test split, beside the baselines on the same rows.

`python -m train.evaluate BUNDLE [--data DIR] [--report NAME]` prints the tables, keeps the
numbers in the bundle's card and, if asked, writes train/reports/NAME.json and NAME.md. Where
lightgbm is installed, boosted trees are fitted on the same data and stand beside the model.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipelines.facts import Facts, find
from pipelines.features import example_inputs, history_inputs
from pipelines.prepared import read_manifest
from pipelines.schema import ACTION_NAMES, DWELL_TIME
from train import trees
from train.baselines import fit_retrievers, top_posts
from train.bundle import Bundle, BundleError, load
from train.bundle.versions import write_metrics
from train.compare import (
    CUTOFFS,
    Results,
    compare_dwell,
    compare_ranking,
    compare_retrieval,
)
from train.index import PostIndex
from train.models.ranker import Ranker
from train.models.text_towers import Towers
from train.queries import Queries
from train.report import REPORTS, header, plain, text, words, write
from train.rows import Past, flatten, read_examples

_BATCH = 512  # examples scored at once
_WIDTH = 116  # columns of text that the widest table needs


def evaluate(
    bundle: Bundle,
    data: Path,
    relevant: str = "click",
    boosted_trees: trees.TreeSettings | None = None,
) -> Results:
    """Every number of the report but its header.

    Args:
        bundle: what is measured.
        data: prepared data set that the bundle was trained on.
        relevant: the action that makes a retrieved post right.
        boosted_trees: how those that stand beside the ranker are fitted, which takes minutes on
            a big log and needs lightgbm; None = without.

    Raises:
        BundleError: `data` is not what the bundle was trained on.
        FileNotFoundError: `data` lacks a split.
    """
    manifest = read_manifest(data)
    if manifest["fingerprint"] != bundle.card["data_fingerprint"]:
        raise BundleError(
            f"{bundle.path}: trained on data {bundle.card['data_fingerprint'][:12]}, but {data} "
            f"is {manifest['fingerprint'][:12]}; give the other data folder or train again"
        )
    before, test = read_examples(data, "train", "validate"), read_examples(data, "test")
    facts = Facts.load(data)
    log = flatten(pa.concat_tables([before, test]))
    of_test = log.example >= len(before)
    results: Results = {
        "data": {
            "name": manifest["name"],
            "num_test_rows": int(of_test.sum()),
            "num_test_viewers": len(np.unique(log.user_id[of_test])),
            "num_rows_before": int((~of_test).sum()),
        },
        "ranking": {},
        "dwell_s": None,
        "retrieval": evaluate_retrieval(
            [(bundle.load_two_tower(), bundle.load_index())], facts, before, test, relevant
        ),
    }
    ranker = bundle.load_ranker()
    if isinstance(ranker, Ranker):  # else nothing was learned of any action
        predicted = predict(ranker, test, facts)
        names, cap_s = manifest["action_names"], ranker.config.dwell_cap_s
        others = {}
        if boosted_trees:
            others["boosted_trees"] = trees.predict(data, boosted_trees)
        results["ranking"] = compare_ranking(log, of_test, [predicted], names, others)
        results["dwell_s"] = compare_dwell(
            log.take(~of_test), log.take(of_test), predicted[:, DWELL_TIME], cap_s
        )
    return results


def predict(
    ranker: Ranker, examples: pa.Table, facts: Facts, quiet: bool = False
) -> NDArray[np.float32]:
    """The ranker's word on every candidate, in the order of `rows.flatten`. float32 [n, A].

    Tells how far it is, unless `quiet`.
    """
    spec = ranker.config.features
    length = pc.list_value_length(examples["post_id"]).to_numpy()
    start = np.cumsum(length) - length
    order = np.argsort(length, kind="stable")  # equal lengths together: little padding
    predicted = np.empty((length.sum(), spec.num_actions), np.float32)
    starts = range(0, len(order), _BATCH)
    for first in track(starts, description="Scoring candidates", disable=quiet):
        part = order[first : first + _BATCH]
        inputs = example_inputs(examples.take(part), spec, facts)
        with torch.inference_mode():
            out = ranker.predict({k: torch.from_numpy(v) for k, v in inputs.items()}).numpy()
        row, slot = np.nonzero(np.arange(out.shape[1]) < length[part, None])
        predicted[start[part][row] + slot] = out[row, slot]
    return predicted


def evaluate_retrieval(
    runs: Sequence[tuple[Towers, PostIndex]],
    facts: Facts,
    before: pa.Table,
    test: pa.Table,
    relevant: str,
    asked: NDArray[np.bool_] | None = None,
) -> Results:
    """Posts found over the full corpus, the index's posts, without those seen before.

    Baselines are fitted on what was shown before the first test row; all, the model too,
    know a viewer's history as of the visit.

    Args:
        runs: towers and the index of their post side, of each run.
        facts: of the data.
        before: examples that may be learned from.
        test: later examples.
        relevant: the action that makes a found post right.
        asked: which of `test` to find posts for, None = all. [len(test)].
    """
    corpus = np.sort(runs[0][1].post_id)
    past = Past.of(pa.concat_tables([before, test]))
    visits = test if asked is None else test.filter(asked)
    queries = Queries.of(visits, past, corpus, ACTION_NAMES.index(relevant))
    if not len(queries.example):
        return {"queries": {"relevant": relevant, "num_queries": 0}}
    pages = [model_pages(*run, facts, corpus, visits, queries) for run in runs]
    return compare_retrieval(queries, pages, baseline_pages(before, test, corpus, queries))


def baseline_pages(
    before: pa.Table, test: pa.Table, corpus: NDArray[np.int64], queries: Queries
) -> dict[str, NDArray[np.int64]]:
    """What each baseline, fitted on the time before `test`, retrieves; as `model_pages`."""
    known = Past.of(before).until(test["at_ms"].to_numpy().min())
    fitted = fit_retrievers(known, corpus).items()
    return {
        name: top_posts(baseline, queries.liked, queries.seen, max(CUTOFFS))
        for name, baseline in track(fitted, description="Retrieval baselines")
    }


def model_pages(
    towers: Towers,
    index: PostIndex,
    facts: Facts,
    corpus: NDArray[np.int64],
    examples: pa.Table,
    queries: Queries,
) -> NDArray[np.int64]:
    """What the towers and the index retrieve. Corpus rows, int64 [Q, largest cutoff]."""
    num_posts = max(CUTOFFS)
    most_seen = int(np.bincount(queries.seen[0]).max(initial=0))
    pages = []
    for first in track(range(0, len(queries.example), _BATCH), description="Searching posts"):
        rows = examples.take(queries.example[first : first + _BATCH])
        inputs = history_inputs(rows, towers.config.features, facts)
        with torch.inference_mode():
            user = towers.user({k: torch.from_numpy(v) for k, v in inputs.items()}).numpy()
        pages.append(find(index.search(user, num_posts + most_seen)[0], corpus))
    return queries.unseen(np.concatenate(pages), num_posts)


def show(results: Results, console: Console) -> None:
    """Print every metric as a table, a row per action or per metric of retrieval.

    The best baseline is bold; the difference is the model's to it, with its 95 % interval.
    """
    ranking, retrieval = dict(results["ranking"]), dict(results["retrieval"])
    if ranking:
        console.print(_table("test rows", ranking.pop("rows")))
    for metric, group in ranking.items():
        console.print(_table(words(metric), group))
    if results["dwell_s"]:
        console.print(_table("dwell: mean absolute error, seconds", results["dwell_s"]))
    console.print(_table("retrieval", {"visits": retrieval.pop("queries")}))
    if retrieval:
        console.print(_table("retrieval over the full corpus", retrieval))


def _table(title: str, group: Results) -> Table:
    columns = list(dict.fromkeys(column for row in group.values() for column in row))
    columns = [column for column in columns if column not in ("best_baseline", "interval")]
    table = Table("", *map(words, columns), title=title, title_justify="left", box=SIMPLE)
    for name, row in group.items():
        cells = {key: text(plain(value)) for key, value in row.items()}
        if row.get("best_baseline"):
            cells[row["best_baseline"]] = f"[bold]{cells[row['best_baseline']]}[/]"
            low, high = row["interval"]
            cells["difference"] = f"{row['difference']:+.4f} ({low:+.4f} to {high:+.4f})"
        table.add_row(words(name), *(cells.get(column, "") for column in columns))
    return table


def main() -> int:
    """Measure a bundle from the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.evaluate", description=__doc__)
    parser.add_argument("bundle", help="a folder written by python -m train.bundle")
    parser.add_argument("--data", type=Path, help="default: artifacts/data/ and the data's name")
    parser.add_argument("--report", metavar="NAME", help="write train/reports/NAME.json and .md")
    parser.add_argument(
        "--relevant", default="click", choices=ACTION_NAMES, help="what a found post must get"
    )
    parser.add_argument("--no-trees", action="store_true", help="do not fit boosted trees")
    args = parser.parse_args()
    beside = None if args.no_trees or not trees.is_installed() else trees.TreeSettings()
    started = time.monotonic()
    try:
        bundle = load(args.bundle)
        if "://" in bundle.path:
            raise BundleError(f"{bundle.path}: its card cannot be written to; copy it to a folder")
        data = args.data or Path("artifacts/data") / bundle.card["name"]
        results = evaluate(bundle, data, args.relevant, beside)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    show(results, Console(width=max(_WIDTH, Console().width)))
    write_metrics(bundle, plain(results))
    if args.report:
        origin = header(bundle.card["data_fingerprint"], seeds=[0])  # of the intervals
        origin["bundle_git_commit"] = bundle.card["git_commit"]
        page = write(args.report, {"header": origin, **results}, REPORTS)
        print(f"{page}: written")
    print(f"evaluated in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
