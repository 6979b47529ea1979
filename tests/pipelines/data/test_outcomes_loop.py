"""From served pages and told acts to examples: the same as from a log that knew them all along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.data.job import prepare
from pipelines.data.outcomes import OutcomeConfig, outcomes
from pipelines.data.synthetic import World
from pipelines.schema import ACTION_NAMES, DAY_MS, EVENTS
from serve.api_events import Engagement
from serve.live.messages import happened, message
from serve.stores.event_log import EventLog, impressions
from tests.conftest import data_config

from .small_log import read

OBSERVED = ["favorite", "click", "report"]
HOUR_MS = 3_600_000


@dataclass
class Round:
    """A world whose log was served page by page, and the same log written down at once."""

    summary: dict
    served: Path
    known: Path
    manifests: tuple[dict, dict]


@pytest.fixture(scope="module")
def once_round(world: World, tmp_path_factory: pytest.TempPathFactory) -> Round:
    """Serve, tell, label and prepare; and prepare what should have come of it."""
    folder = tmp_path_factory.mktemp("round")
    world.write(folder / "log")
    events = pages(world)
    serve(events, folder / "events")
    tell(events, folder / "live")
    config = OutcomeConfig(
        impressions=[str(folder / "events")],
        engagements=[str(folder / "live/engagements")],
        out=str(folder / "outcomes"),
        window_h=1,
        observed=OBSERVED,
        partition_rows=3000,
    )
    summary = outcomes(config)
    (folder / "known").mkdir()
    pq.write_table(known(events), folder / "known/events.parquet")
    publish(world.posts, folder)

    posts = [str(folder / "posts.parquet"), str(folder / "live/posts")]
    places = {"served": (str(folder / "outcomes/events"), posts)}
    places["known"] = (str(folder / "known"), str(folder / "log/posts"))
    manifests = []
    for name, (of_events, of_posts) in places.items():
        config = data_config(folder / "log", folder / "data" / name)
        reader = config.reader | {"events": of_events, "posts": of_posts}
        manifests.append(prepare(config.model_copy(update={"reader": reader})))
    out = folder / "data"
    return Round(summary, out / "served", out / "known", (manifests[0], manifests[1]))


def pages(world: World) -> pl.DataFrame:
    """The world's log as a server sees it: a page is shown at once."""
    events = pl.DataFrame(world.events).sort("request_id", "position")
    return events.with_columns(left_at_ms=pl.col("shown_at_ms") + 300).with_columns(
        pl.col("shown_at_ms").min().over("request_id")
    )


def serve(events: pl.DataFrame, folder: Path) -> None:
    """Log the pages as the feed does, in several files."""
    log = EventLog(folder, "here", max_rows=2000)
    for _, page in events.group_by("request_id", maintain_order=True):
        user_id, request_id, shown_at_ms, surface = page.select(
            "user_id", "request_id", "shown_at_ms", "surface"
        ).row(0)
        log.append(
            impressions(user_id, request_id, shown_at_ms, surface, page["post_id"].to_numpy())
        )
        if len(list(folder.iterdir())) < 3:
            log.flush()
    log.close()


def tell(events: pl.DataFrame, folder: Path) -> None:
    """Engagements by the planted tastes, in no order, some twice; seconds of even posts alone."""
    acts = []
    for name in ACTION_NAMES:
        did = pl.col("post_id") % 2 == 0 if name == "dwell_time" else pl.col(name)
        rows = events.filter(did).select(
            "user_id", "post_id", "left_at_ms", "request_id", "dwell_s"
        )
        for user_id, post_id, at_ms, request_id, dwell_s in rows.iter_rows():
            acts.append(
                Engagement(
                    kind="engagement",
                    user_id=user_id,
                    post_id=post_id,
                    at_ms=at_ms,
                    action=name,
                    dwell_s=dwell_s if name == "dwell_time" else None,
                    request_id=request_id if post_id % 3 else None,
                )
            )
    order = np.random.default_rng(0).permutation(len(acts))
    messages = [message(acts[at]) for at in (*order, *order[:100])]
    write(happened(messages)[0].engagements, folder / "engagements", num_files=5)


def known(events: pl.DataFrame) -> pa.Table:
    """What should have come of the closed windows, as a log that knew it at once."""
    newest_ms = events["shown_at_ms"].max()
    unobserved = [n for n in ACTION_NAMES if n not in (*OBSERVED, "dwell_time")]
    day = (pl.col("shown_at_ms") // DAY_MS).cast(pl.Int32).cast(pl.Date)
    closed = (
        events.filter(pl.col("shown_at_ms") + HOUR_MS <= newest_ms)
        .sort("user_id", "shown_at_ms", "position")
        .with_columns(
            *(pl.lit(None, pl.Boolean).alias(name) for name in unobserved),
            dwell_s=pl.when(pl.col("post_id") % 2 == 0).then("dwell_s"),
            log_date=day,
            event_id=pl.format("{}/{}", "request_id", "position"),
        )
    )
    return closed.select(EVENTS.arrow.names).to_arrow().cast(EVENTS.arrow)


def publish(posts: pa.Table, folder: Path) -> None:
    """The older posts were there before; the others were told, one of them twice."""
    half = len(posts) // 2
    pq.write_table(posts.slice(0, half), folder / "posts.parquet")
    write(pa.concat_tables([posts.slice(half), posts.slice(half, 1)]), folder / "live/posts")


def write(table: pa.Table, folder: Path, num_files: int = 2) -> None:
    """Rows in several files, in their order."""
    folder.mkdir(parents=True)
    size = -(-len(table) // num_files)
    for at in range(num_files):
        pq.write_table(table.slice(at * size, size), folder / f"{at}.parquet")


def test_examples_are_those_of_a_log_that_knew(once_round):
    """Candidates, masks, seconds, histories, profiles and running rates: equal to the byte."""
    served, known = once_round.manifests

    assert served["fingerprint"] == known["fingerprint"]
    assert served["rows"]["events"] == known["rows"]["events"]
    assert served["splits"] == known["splits"]


def test_masks_say_what_was_observed(once_round):
    """Observed are the actions that were named, and seconds where they were told; no others."""
    bits = {name: 1 << ACTION_NAMES.index(name) for name in ACTION_NAMES}
    rows = read(once_round.served, "train", "post_id", "did", "observed", "dwell_s").explode(
        "post_id", "did", "observed", "dwell_s"
    )
    discrete = sum(bits[name] for name in OBSERVED)
    told = (rows["post_id"] % 2 == 0).to_numpy()

    assert (rows["observed"].to_numpy() == discrete + told * bits["dwell_time"]).all()
    assert (rows["did"].to_numpy() & ~discrete == 0).all()
    assert (np.isfinite(rows["dwell_s"].to_numpy()) == told).all()
    assert 0 < (rows["did"] & bits["favorite"] != 0).mean() < 0.5


def test_rates_count_what_came_of_it(once_round):
    """The last running count of all posts is every showing and every favorite of the log."""
    counts = pl.read_parquet(once_round.served / "rates/all.parquet").sort("from_ms")
    favorites = once_round.summary["labels"]["favorite"]

    assert counts.columns[3:] == OBSERVED
    assert counts["shown"][-1] == once_round.summary["impressions"]["labelled"]
    assert counts["favorite"][-1] == favorites > 0


def test_all_acts_found_their_impression(once_round):
    """Nothing that was told of a served post is lost; what was told twice counts once."""
    acts = once_round.summary["engagements"]

    assert acts["duplicates"] == 100
    assert acts["not observed"] > 0
    assert acts["no impression"] == acts["before shown"] == acts["too late"] == 0
    assert once_round.summary["impressions"]["open"] > 0
