"""What came of impressions, against a judge that looks at one row at a time."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.data.outcomes import OutcomeConfig, main, outcomes
from pipelines.data.reader import InputError
from pipelines.schema import ENGAGEMENTS, EVENTS

from .told import (
    MINUTE_MS,
    OUTCOMES,
    START_MS,
    Naive,
    Row,
    engaged,
    label,
    labelled,
    page,
    served,
    told,
    write,
)

minutes = st.integers(0, 60)
OBSERVED = st.sampled_from([None, [], ["favorite"], ["reply", "dwell_time"]])


def instant(minute: float) -> dt.datetime:
    """Minutes after START_MS."""
    return dt.datetime.fromtimestamp(START_MS / 1000 + minute * 60, dt.UTC)


def outcome(row: Row) -> Row:
    """The columns that say what came of it; seconds to what a float32 holds."""
    return {n: pytest.approx(row[n]) if n == "dwell_s" else row[n] for n in OUTCOMES}


@settings(max_examples=30)
@given(served(), engaged(), minutes, OBSERVED, st.integers(0, 99))
def test_labels_and_counts_are_those_of_the_plain_rule(shown, acts, minute, observed, seed):
    """Each closed impression has its outcome, each act is accounted for once, others are not there.

    However rows are ordered, repeated and partitioned.
    """
    naive = Naive(shown, acts, START_MS + minute * MINUTE_MS, observed)
    with TemporaryDirectory() as folder:
        until = instant(minute)
        summary = label(Path(folder), shown, acts, seed, until=until, observed=observed)
        found = labelled(Path(folder))
        left = pq.read_table(Path(folder) / "out/unattributed.parquet").to_pylist()

    assert {name: outcome(row) for name, row in found.items()} == naive.outcomes
    rows, reasons = summary["impressions"], naive.reasons
    assert rows["labelled"] + rows["open"] == len(naive.shown)
    assert rows["read"] == rows["duplicates"] + len(naive.shown)
    rows = dict(summary["engagements"])
    assert rows.pop("read") == rows.pop("duplicates") + sum(rows.values())
    assert {reason: num for reason, num in rows.items() if num} == reasons
    written = Counter(row["reason"] for row in left)
    assert written == {r: n for r, n in reasons.items() if r not in ("attributed", "waiting")}
    assert summary["labels"]["favorite"] == sum(row["favorite"] is True for row in found.values())


def test_what_the_feed_logged_stays(tmp_path):
    """An impression keeps every column that the feed wrote, and gets its outcome beside it."""
    label(tmp_path, page("r", 1, 0, [7, 8]), [told("e", 1, 8, 1, "favorite")], until=instant(60))
    shown = pq.read_table(tmp_path / "shown/0.parquet").to_pylist()
    found = labelled(tmp_path)

    for row in shown:
        kept = {name: value for name, value in row.items() if name not in OUTCOMES}
        assert found[row["event_id"]].items() >= kept.items()
    assert pq.read_schema(next((tmp_path / "out/events").iterdir())).equals(EVENTS.arrow)


@settings(max_examples=15)
@given(served(), engaged(), st.data())
def test_nothing_after_the_window_matters(shown, engagements, data):
    """An outcome is the same when all that was shown or done from its window's end on is unknown.

    So a run gives again what an earlier one gave, and then more.
    """
    with TemporaryDirectory() as folder:
        label(Path(folder) / "all", shown, engagements, until=instant(100))
        late = labelled(Path(folder) / "all")
        one = data.draw(st.sampled_from(shown))
        end_ms = one["shown_at_ms"] + 10 * MINUTE_MS
        label(
            Path(folder) / "then",
            [row for row in shown if row["shown_at_ms"] < end_ms],
            [row for row in engagements if row["at_ms"] < end_ms],
            until=instant((end_ms - START_MS) / MINUTE_MS),
        )
        early = labelled(Path(folder) / "then")

    assert one["event_id"] in early
    assert early.items() <= late.items()


def test_same_rows_same_bytes(tmp_path):
    """Whatever files rows lie in, and in which order, what is written is the same to the byte."""
    shown = [row for at in range(9) for row in page(f"r{at}", at % 4 + 1, at, [1, 2, 3])]
    acts = [told(f"e{at}", at % 4 + 1, 2, 20, "dwell_time", dwell_s=at / 7) for at in range(40)]
    written = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        label(folder, shown, acts, seed=seed, partition_rows=10**6, until=instant(60))
        files = sorted((folder / "out").rglob("*.parquet"))
        written.append([file.read_bytes() for file in files])

    assert written[0] == written[1] == written[2]


def test_a_named_request_decides(tmp_path):
    """An act that names the older of two pages is that page's; one that names none, the newer's."""
    shown = [*page("old", 1, 0, [7]), *page("new", 1, 3, [7])]
    acts = [
        told("a", 1, 7, 5, "favorite", request_id="old"),
        told("b", 1, 7, 5, "reply", request_id="lost"),
    ]
    label(tmp_path, shown, acts, until=instant(60))
    found = labelled(tmp_path)

    assert (found["old/0"]["favorite"], found["new/0"]["favorite"]) == (True, False)
    assert (found["old/0"]["reply"], found["new/0"]["reply"]) == (False, True)


def test_not_told_is_not_zero_seconds(tmp_path):
    """Dwell adds up; without it there is none, unless every client tells it: then it is 0 s."""
    shown = page("r", 1, 0, [7, 8])
    acts = [told(f"e{at}", 1, 7, at, "dwell_time", dwell_s=1.5) for at in range(2)]
    for observed, expected in ((None, None), (["favorite"], None), (["dwell_time"], 0.0)):
        folder = tmp_path / str(observed)
        label(folder, shown, acts, until=instant(60), observed=observed)
        found = labelled(folder)
        assert found["r/0"]["dwell_s"] == 3.0
        assert found["r/1"]["dwell_s"] == expected


def test_an_action_is_observed_once_somebody_told_it(tmp_path):
    """Before an action was first told nothing is known of it; after, not told is not done."""
    shown = [*page("before", 1, 0, [7]), *page("after", 1, 30, [7]), *page("last", 1, 59, [7])]
    label(tmp_path, shown, [told("e", 2, 9, 20, "favorite")], until=instant(60))
    found = labelled(tmp_path)

    assert found["before/0"]["favorite"] is None
    assert found["after/0"]["favorite"] is False
    assert found["after/0"]["reply"] is None
    assert "last/0" not in found


def test_what_the_log_says_is_its_own_clock(tmp_path):
    """Without `until`, windows are held against the newest impression, not against the clock."""
    shown = [*page("a", 1, 0, [7]), *page("b", 1, 9, [8]), *page("c", 2, 10, [7])]
    summary = label(tmp_path, shown, [told("e", 1, 7, 10**7, "favorite")])

    assert summary["until_ms"] == START_MS + 10 * MINUTE_MS
    assert labelled(tmp_path).keys() == {"a/0"}


SHOWN, TOLD = page("r", 1, 0, [7])[0], told("e", 1, 7, 1, "favorite")


@pytest.mark.parametrize(
    ("shown", "acts", "message"),
    [
        ([SHOWN | {"post_id": 0}], [TOLD], r"shown.0.parquet: row 1, column post_id: 0: too small"),
        ([SHOWN | {"shown_at_ms": 2**60}], [TOLD], r"column shown_at_ms: \d+: in the future"),
        ([SHOWN | {"reply": True}], [TOLD], "row 1, column reply: True: its outcome is known"),
        (
            [SHOWN, SHOWN | {"post_id": 8}],
            [TOLD],
            r"column event_id: 'r/0': duplicate key: .*row 1",
        ),
        ([SHOWN], [TOLD | {"at_ms": -1}], r"told.0.parquet: row 1, column at_ms: -1: too small"),
        ([SHOWN], [TOLD | {"dwell_s": 2.0}], r"row 1, column dwell_s: 2.0: dwell_s belongs to"),
        ([SHOWN], [TOLD | {"action": "dwell_time"}], r"column dwell_s: None: dwell_s belongs to"),
        ([], [TOLD], "no impression is there"),
    ],
)
def test_bad_input_is_named(tmp_path, shown, acts, message):
    """What breaks the contract stops the run, with its place and value, and leaves nothing."""
    write(tmp_path / "shown", shown, EVENTS.arrow)
    write(tmp_path / "told", acts, ENGAGEMENTS.arrow)
    places = {"impressions": [str(tmp_path / "shown")], "engagements": [str(tmp_path / "told")]}
    with pytest.raises(InputError, match=message):
        outcomes(OutcomeConfig(out=str(tmp_path / "out"), **places))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["shown", "told"]


def test_windows_do_not_close_before_their_time(tmp_path):
    """An `until` in the future is refused: what may still be told would be taken for not done."""
    with pytest.raises(InputError, match="in the future"):
        label(tmp_path, [SHOWN], [TOLD], until=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))


def test_foreign_folders_are_left_alone(tmp_path):
    """A folder with other files in it is not overwritten; one of an earlier run is."""
    label(tmp_path, [SHOWN], [TOLD])
    again = {"impressions": [f"{tmp_path}/shown"], "engagements": [f"{tmp_path}/told"]}
    outcomes(OutcomeConfig(out=str(tmp_path / "out"), **again))
    with pytest.raises(InputError, match="holds files that this command did not write"):
        outcomes(OutcomeConfig(out=str(tmp_path / "told"), **again))


def test_command_line(tmp_path, capsys):
    """The command says what went where; what is wrong it says in one line, with the near miss."""
    write(tmp_path / "shown", [*page("a", 1, 0, [7]), *page("b", 1, 30, [8])], EVENTS.arrow)
    write(tmp_path / "told", [TOLD, told("f", 1, 9, 1, "reply")], ENGAGEMENTS.arrow)
    places = ["--impressions", f"{tmp_path}/shown", "--engagements", f"{tmp_path}/told"]
    arguments = [*places, "--out", f"{tmp_path}/out", "--window-h", "0.5"]

    assert main([*arguments, "--until", "2026-01-01T00:30:00Z"]) == 0
    said = capsys.readouterr().out
    assert "impressions: 2 read: 0 duplicates, 1 open, 1 labelled" in said
    assert "1 attributed" in said
    assert "1 no impression" in said
    assert main([*arguments, "--observed", "favorite,replyy"]) == 1
    assert "did you mean 'reply'" in capsys.readouterr().err


def test_many_small_files(tmp_path):
    """Impressions and acts in many files give what they give in one."""
    shown = [row for at in range(40) for row in page(f"r{at}", at % 5 + 1, at // 5, [1, 2])]
    acts = [told(f"e{at}", at % 5 + 1, 1, at // 5 + 1, "favorite") for at in range(40)]
    for name, num_files in (("one", 1), ("many", 40)):
        write(tmp_path / name / "shown", shown, EVENTS.arrow, num_files)
        write(tmp_path / name / "told", acts, ENGAGEMENTS.arrow, num_files)
        config = OutcomeConfig(
            impressions=[f"{tmp_path}/{name}/shown"],
            engagements=[f"{tmp_path}/{name}/told/*.parquet"],
            out=f"{tmp_path}/{name}/out",
            window_h=1 / 6,
            partition_rows=20,
        )
        outcomes(config)

    assert labelled(tmp_path / "one") == labelled(tmp_path / "many")
