"""The Deskdrop reader: what one did with an article in a session is one event."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from configs import load
from pipelines.data.job import DataConfig, prepare
from pipelines.data.reader import InputError, MissingInputError, make_reader
from pipelines.schema import ACTION_NAMES
from train.rows import flatten, read_examples

SHARED = Path("../shared/data/deskdrop")
CONFIG = Path(__file__).parents[3] / "configs" / "data" / "deskdrop.yaml"
MAY = 1_462_060_800  # 2016-05-01T00:00Z
EVENTS = """timestamp,eventType,contentId,personId,sessionId,userAgent,userRegion,userCountry
{2},LIKE,-7,-3,1,,,BR
{1},VIEW,-7,-3,1,,,
{3},BOOKMARK,-7,-3,1,,,US
{4},VIEW,-7,-3,2,iOS - Native Mobile App,,US
{5},FOLLOW,8,4,3,Mozilla/5.0,,
{6},COMMENT CREATED,8,4,3,Mozilla/5.0,,
{6},VIEW,8,4,4,Android - Native Mobile App,,
"""
ARTICLES = '''timestamp,eventType,contentId,title,text
1,CONTENT SHARED,-7,"A title, and ""more""","a body
of two lines"
1,CONTENT SHARED,8,Another,
2,CONTENT REMOVED,8,Another,
'''


def write(folder: Path, events: str = EVENTS) -> dict[str, str]:
    """A download with seven events; `{n}` in them is n seconds into May. Returns the settings."""
    times = [str(MAY + second) for second in range(10)]
    (folder / "users_interactions.csv").write_text(events.format(*times))
    (folder / "shared_articles.csv").write_text(ARTICLES)
    return {"name": "deskdrop", "path": str(folder)}


def tables(settings: dict[str, str]) -> dict[str, pl.DataFrame]:
    """All that the reader gives."""
    reader = make_reader(settings)
    return {
        fragment.table: pl.DataFrame(next(iter(reader.read(fragment))).table)
        for fragment in reader.fragments()
    }


def test_a_session_with_an_article_is_one_event(tmp_path):
    """Its time is that of the first act, and all that was done then counts; ids are positive."""
    events = tables(write(tmp_path))["events"]
    mine = 2**63 - 7, 2**63 - 3

    assert [tuple(row) for row in events.select("post_id", "user_id").iter_rows()] == [
        *(mine, mine),
        *((8, 4), (8, 4)),
    ]
    assert (events["shown_at_ms"] // 1000 - MAY).to_list() == [1, 4, 5, 6]
    assert events["surface"].to_list() == [None, 3, 1, 2]
    assert events["click"].all()
    for name, done in {
        "favorite": [True, False, False, False],
        "bookmark": [True, False, False, False],
        "reply": [False, False, True, False],
        "follow_comments": [False, False, True, False],
    }.items():
        assert events[name].to_list() == done


def test_articles_and_viewers(tmp_path):
    """An article has one title and the time of its first view; a viewer their first country."""
    found = tables(write(tmp_path))
    posts, users = found["posts"], found["users"]

    assert posts["text"].to_list() == ['A title, and "more"', "Another"]
    assert (posts["created_at_ms"] // 1000 - MAY).to_list() == [1, 6]
    assert dict(users.select("user_id", "country").iter_rows()) == {2**63 - 3: None, 4: None}


def test_what_is_missing_or_new_is_named(tmp_path):
    """Without files the error says where they are to be had; an unknown event names its row."""
    with pytest.raises(
        MissingInputError, match=r"(?s)no users_interactions\.csv.*DeskDrop.*kaggle"
    ):
        make_reader({"name": "deskdrop", "path": str(tmp_path)}).fragments()
    with pytest.raises(InputError, match="row 5, eventType: 'SHARE' is none of VIEW, LIKE"):
        tables(write(tmp_path, EVENTS.replace("FOLLOW", "SHARE")))


@pytest.mark.skipif(
    not SHARED.exists() and not os.environ.get("CI"), reason="needs ../shared/data/deskdrop"
)
def test_the_real_log(tmp_path):
    """The year of 1,895 viewers and 2,987 articles becomes splits with all four extra signals."""
    where = [f"reader.path={SHARED}", f"out={tmp_path / 'data'}"]
    manifest = prepare(load(CONFIG, DataConfig, where))

    assert manifest["rows"]["users"]["kept"] == 1_895
    assert manifest["rows"]["posts"]["kept"] == 2_987
    assert manifest["rows"]["events"] == manifest["rows"]["events"] | {"rejected": 0}
    assert manifest["actions"] == [*ACTION_NAMES, "bookmark", "follow_comments"]
    rows = flatten(read_examples(tmp_path / "data", "test"))
    for name in ("click", "favorite", "bookmark"):
        assert rows.label(manifest["actions"].index(name)).any()
