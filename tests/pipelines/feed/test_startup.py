"""Whatever is wrong with a feed is said before the first request."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import configs
import pipelines.feed.filters
from configs import ConfigError
from pipelines.feed.__main__ import main
from pipelines.feed.discover import FeedConfig, discover
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.stages import Filter, PostFilter, QueryHydrator, Scorer, snake_case
from pipelines.feed.waves import WiringError
from tests.pipelines.feed.compose import compose, serve
from tests.pipelines.feed.world import World


def refused(settings: dict) -> str:
    """What start-up says to these settings."""
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is checked by the caller
        Pipeline.build(FeedConfig.model_validate(settings))
    return str(error.value)


def scorer(name: str, needs: tuple[str, ...], column: str) -> type[Scorer]:
    """A scorer class that writes `column`."""
    body = {"__doc__": "Scores.", "needs": needs, "provides": {column: np.float64}, "fails": "open"}
    body["score"] = lambda *_: None
    return dataclass(frozen=True, kw_only=True)(type(name, (Scorer,), body))


def test_every_wrong_setting_names_the_near_miss():
    """Unknown components, unknown settings and values out of range each say where and why."""
    filters = ", ".join(sorted(discover()["filters"]))
    assert refused({"filters": {"aeg": {}}}) == (
        f"filters.aeg: no such component; did you mean 'age'? (have: {filters})"
    )
    assert refused({"filters": {"age": {"max_age_hour": 1}}}) == (
        "filters.age.max_age_hour: no such setting; did you mean 'max_age_hours'? "
        "(have: drop_unknown, max_age_hours)"
    )
    assert refused({"filters": {"age": {"max_age_hours": "soon"}}}) == (
        "filters.age.max_age_hours: Input should be a valid number, unable to parse string as a "
        "number, got 'soon'"
    )
    assert refused({"sources": {"popular": {"num_posts": 0}}}) == (
        "sources.popular.num_posts: Input should be greater than 0, got 0"
    )


def test_a_need_that_nothing_provides_is_named():
    """Switching off what others need is refused, with the first that needs it."""
    assert refused({"hydrators": {"engagement": None}}) == (
        "filters.new_user_min_engagement needs 'num_likes', which nothing provides"
    )


def test_misspelt_and_premature_needs_are_refused():
    """A need close to a column suggests it; one that is met only later says by whom."""
    with pytest.raises(
        WiringError,
        match=r"scorers.extra needs 'created_at', which nothing provides; did you mean 'created_at",
    ):
        compose(scorer("Extra", ("created_at",), "x"))

    @dataclass(frozen=True, kw_only=True)
    class Eager(Filter):
        """Looks at scores before there are any."""

        needs = ("score",)
        fails = "open"
        keep = None

    with pytest.raises(
        WiringError, match=r"eager needs 'score', which scorers.final_score provides only later"
    ):
        compose(Eager)


def test_two_writers_of_a_column_are_refused():
    """A column has one writer."""
    with pytest.raises(
        WiringError, match=r"scorers.value provides 'value', which scorers.mine writes already"
    ):
        compose(scorer("Mine", ("author_id",), "value"))


def test_components_that_wait_for_each_other_are_refused():
    """A cycle is shown from need to need."""
    with pytest.raises(WiringError, match="each needs what the next one provides") as error:
        compose(scorer("One", ("b",), "a"), scorer("Two", ("a",), "b"))
    assert "scorers.one -> scorers.two" in str(error.value)


def test_a_feed_has_one_selector():
    """Without a selector there is no order, so no feed."""
    assert refused({"selectors": {"top_k": None}}) == "selectors: exactly one is needed, have: -"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"needs": (), "fails": "open"}, "filters.mine: a component needs a docstring"),
        ({"__doc__": "Mine.", "needs": ()}, "filters.mine: declare fails"),
        ({"__doc__": "Mine.", "needs": (), "fails": "ajar"}, "got 'ajar'"),
        ({"__doc__": "Mine.", "fails": "open"}, "filters.mine: declare needs"),
        ({"__doc__": "Mine.", "needs": "author_id", "fails": "open"}, "declare needs as a tuple"),
    ],
)
def test_a_component_must_declare_itself(body, message):
    """A class that leaves something to guess cannot even be made."""
    with pytest.raises(TypeError, match=message):
        type("Mine", (Filter,), body)


def test_only_query_hydrators_write_the_query():
    """`query.` parts and columns are never confused."""
    with pytest.raises(TypeError, match="only query hydrators"):
        scorer("Mine", (), "query.mood")
    body = {"__doc__": "Mine.", "needs": (), "fails": "open", "provides": {"mood": str}}
    with pytest.raises(TypeError, match="only query hydrators"):
        type("Mine", (QueryHydrator,), body)


def test_stages_order_themselves():
    """What depends on nothing runs side by side; what needs a column waits for its writer."""
    stages = {
        stage: [[component.name for component in wave] for wave in waves]
        for stage, waves in Pipeline.build().stages.items()
    }
    assert stages["query_hydrators"] == [
        ["blend", "graph", "recent_actions", "served", "viewer"],
        ["history", "seen"],
        ["cached_posts"],
    ]
    assert stages["sources"] == [
        [
            *("cached_posts", "in_network", "popular", "prefix", "replies", "rising"),
            *("semantic_search", "text_search", "two_tower", "two_tower_topics"),
        ]
    ]
    assert stages["hydrators"] == [
        ["engagement", "post_facts"],
        ["author_facts", "in_network", "muted_words", "subscriptions"],
        ["visibility"],
    ]
    assert stages["scorers"] == [
        [
            *("action_weights", "actions", "author_fatigue", "interference", "novelty"),
            *("out_of_network", "reply_quality", "text_match", "topic_fatigue", "velocity"),
        ],
        ["value"],
        ["base_score"],
        ["cold_start"],
        ["author_diversity"],
        ["final_score"],
        ["dpp"],
    ]


EXAMPLE = '''
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from pipelines.feed.stages import FeedQuery, Filter
from pipelines.feed.table import Candidates


@dataclass(frozen=True, kw_only=True)
class Duration(Filter):
    """Drops videos longer than `max_duration_s`; posts of unknown length stay."""

    needs = ("duration_s",)
    fails = "open"
    max_duration_s: PositiveFloat = 60.0

    def keep(self, query: FeedQuery, posts: Candidates) -> NDArray[np.bool_]:
        """Look at the length."""
        return ~(posts["duration_s"] > self.max_duration_s)
'''


def test_adding_a_filter_is_one_file(tmp_path, monkeypatch):
    """The README's example, saved as filters/duration.py, is found, set up and obeyed."""
    (tmp_path / "duration.py").write_text(EXAMPLE)
    folders = [*pipelines.feed.filters.__path__, str(tmp_path)]
    monkeypatch.setattr(pipelines.feed.filters, "__path__", folders)
    config = FeedConfig(filters={"duration": {"max_duration_s": 20}})
    result = serve(Pipeline.build(config), World().query(), World())
    assert result.page["duration_s"].max() <= 20
    assert len(result.dropped["filters.duration"]) > 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1", "expected a component of filters whose class is Length"),
        (EXAMPLE, "expected a component of filters whose class is Length"),
        (
            EXAMPLE.replace("Duration", "Length").replace(
                "@dataclass(frozen=True, kw_only=True)", ""
            ),
            r"filters.length: decorate it @dataclass\(frozen=True, kw_only=True\)",
        ),
    ],
)
def test_a_file_must_hold_what_its_name_promises(tmp_path, monkeypatch, source, message):
    """A file without its component, or with one that could change, stops start-up."""
    (tmp_path / "length.py").write_text(source)
    monkeypatch.delitem(sys.modules, "pipelines.feed.filters.length", raising=False)
    folders = [*pipelines.feed.filters.__path__, str(tmp_path)]
    monkeypatch.setattr(pipelines.feed.filters, "__path__", folders)
    with pytest.raises(TypeError, match=message):
        discover()


def test_post_filters_run_in_the_order_of_the_file():
    """Rules of the page that feed.yaml names come first, in its order."""

    class Rule:
        needs: ClassVar = ()
        fails = "open"
        keep = None

    made = [
        dataclass(frozen=True, kw_only=True)(type(n, (Rule, PostFilter), {"__doc__": "A rule."}))
        for n in ("Aaa", "Zzz")
    ]
    found = discover()
    found["post_filters"] |= {cls.name: cls for cls in made}
    config = FeedConfig(post_filters={"zzz": {}, "author_cap": {}})
    (wave,) = Pipeline.build(config, found).stages["post_filters"]
    names = [component.name for component in wave]
    assert names[:2] == ["zzz", "author_cap"]
    assert sorted(names[2:]) == sorted({*found["post_filters"]} - {"zzz", "author_cap"})


def test_the_shipped_settings_compose(capsys):
    """configs/feed.yaml is a feed, and printing it shows every component and what it needs."""
    main([])
    printed = capsys.readouterr().out
    for component in Pipeline.build(configs.load("configs/feed.yaml", FeedConfig)).components:
        assert component.name[:12] in printed
    main(["filters.age=null"])
    assert " age " not in capsys.readouterr().out


def test_unknown_stage_names_the_near_miss(tmp_path):
    """A misspelt stage in feed.yaml is an error of the file."""
    (tmp_path / "feed.yaml").write_text("filter: {age: null}")
    with pytest.raises(ConfigError, match="filter: no such setting; did you mean 'filters'"):
        configs.load(tmp_path / "feed.yaml", FeedConfig)


def test_names_in_snake_case():
    """Class names and file names are two spellings of one name."""
    assert [snake_case(n) for n in ("Age", "TopK", "PostFacts")] == ["age", "top_k", "post_facts"]
