"""`python -m serve.demo [--bundle DIR]`: serve a bundle and ask for three viewers' feeds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipelines.runtime import connect
from serve.deploy import DeployError, deploy
from train.bundle import Bundle, BundleError, load

CONFIG = Path(__file__).parent.parent / "configs" / "serve.yaml"
STRANGER = 987_654_321  # a viewer that no data set has
_WIDTH = 116  # columns of text that the widest table needs
_POSTS = 8  # posts asked for per viewer
_ACTIONS = 2  # likeliest actions shown per post


def main() -> int:
    """Run the demo; the exit status is 2 for a bundle that cannot be served."""
    parser = argparse.ArgumentParser(prog="python -m serve.demo", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("artifacts/bundle"))
    path = parser.parse_args().bundle
    console = Console(width=max(_WIDTH, Console().width))
    try:
        bundle = load(path)
        viewers = _viewers(bundle)
        with console.status("Starting Ray Serve: a FeedHandler, Retriever, Ranker and Scorer …"):
            connect()
            url = deploy(CONFIG, {"bundle": str(path.resolve())})
    except (BundleError, DeployError) as error:
        print(error, file=sys.stderr)
        return 2
    with httpx.Client(base_url=url, timeout=30) as http:
        for user_id, who in viewers:
            reply = http.post("/v1/feed", json={"user_id": user_id, "limit": _POSTS})
            console.print(_page(reply.raise_for_status().json(), who))
    console.print(_metrics(bundle))
    console.print(
        f"Served by configs/serve.yaml at {url}. It stops now; to keep one running:\n"
        f"  make serve      (its API is described at {url}/docs)\n"
        f"  curl {url}/v1/feed -H 'Content-Type: application/json' -d '{{\"user_id\": "
        f'{viewers[0][0]}, "limit": 3}}\'',
        highlight=False,
    )
    _stop()
    return 0


def _viewers(bundle: Bundle) -> list[tuple[int, str]]:
    """The viewers with the most and with the fewest events, and one nobody has heard of."""
    profiles = bundle.profiles
    num_events = profiles["history_post_id"].combine_chunks().value_lengths().to_numpy()
    by_events = num_events.argsort(kind="stable")
    known = [
        (int(profiles["user_id"][int(row)].as_py()), int(num_events[row])) for row in by_events
    ]
    told = [
        (user_id, f"{num} event{'' if num == 1 else 's'} in the profile")
        for user_id, num in (known[-1], known[0])
    ]
    return [*told, (STRANGER, "never seen before")]


def _page(feed: dict[str, Any], who: str) -> Table:
    notes = ["cold start"] if feed["cold_start"] else []
    notes += [f"without {name}" for name in feed["degraded"]]
    title = f"Viewer {feed['user_id']} ({', '.join([who, *notes])})"
    columns = ("", "post", "author", "score", "likeliest actions", "why it is there")
    table = Table(*columns, title=title, title_justify="left", box=SIMPLE)
    for post in feed["posts"]:
        table.add_row(
            str(post["rank"]),
            str(post["post_id"]),
            str(post["author_id"] or "unknown"),
            f"{post['score']:.3g}",
            ", ".join(_likeliest(post["p_action"])),
            post["reason"],
        )
    return table


def _likeliest(p_action: dict[str, float]) -> Iterator[str]:
    chances = {name: p for name, p in p_action.items() if name != "dwell_time"}
    for name in sorted(chances, key=lambda name: -chances[name])[:_ACTIONS]:
        yield f"{name} {chances[name]:.2f}"


def _metrics(bundle: Bundle) -> Table | str:
    """Discrimination per action and retrieval, each beside its best baseline."""
    metrics = bundle.card["metrics"]
    if not metrics:
        return "This bundle was not measured yet: python -m train.evaluate"
    rows = {f"AUC, {name}": row for name, row in metrics["ranking"].get("auc", {}).items()}
    rows |= {name: row for name, row in metrics["retrieval"].items() if name != "queries"}
    columns = ("test split", "model", "best baseline", "", "boosted trees")
    table = Table(*columns, title="How good it is", title_justify="left", box=SIMPLE)
    for name, row in rows.items():
        best = row["best_baseline"]
        table.add_row(
            name,
            *(_number(row.get(key)) for key in ("model", best)),
            best,
            _number(row.get("boosted_trees")),
        )
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _stop() -> None:
    from ray import serve  # after `connect`: it reads its flags when imported

    serve.delete("rayfeed")  # replicas write out the event log
    ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
