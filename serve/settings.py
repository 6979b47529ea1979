"""`args` of the application in configs/serve.yaml, and what they become."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from configs import Config, near_miss
from serve.admission import Limits
from serve.deployments import RankerSettings, RetrieverSettings
from serve.live.following import LiveSettings
from serve.live.journals import JournalSettings
from serve.live.sqlite_file import SqliteSettings
from serve.new_posts import NewPostsSettings
from serve.requests import TIMELINE
from serve.stores.recent import RecentSettings
from serve.stores.viewers import ViewerSettings
from serve.stores.viewers.sqlite import SqliteSettings as ViewersInFile
from serve.stores.watched import Watched

S = TypeVar("S", bound=Config)
T = TypeVar("T")
_ROOT = Path(__file__).parent.parent
_FEEDS = {
    TIMELINE: "configs/feed.yaml",
    "explore": "configs/feeds/explore.yaml",
    "search": "configs/feeds/search.yaml",
    "conversations": "configs/feeds/conversations.yaml",
}


class Args(Config):
    """`args` of the application in configs/serve.yaml; relative paths start at the project."""

    bundle: str = "artifacts/bundle"  # written by `python -m train.bundle`
    # Name in requests -> file. All but the timeline may be left out. Experiments of another file
    # that is put in its place are taken up.
    feeds: dict[str, str] = Field(default_factory=_FEEDS.copy)
    event_log: str = "artifacts/events"  # directory that impressions are appended to
    event_log_max_rows: PositiveInt = 10_000  # rows per file
    event_log_max_age_s: PositiveFloat = 10.0  # seconds of impressions that a crash may lose
    topology: Literal["dag", "fused"] = (
        "dag"  # models in replicas of their own, or in FeedHandler's
    )
    clock: Literal["wall", "log"] = "wall"  # "log": starts at the bundle's newest event
    # Files, read again when another one is put in their place.
    labels: str | None = None  # of posts and authors, as serve/stores/labels.py
    preferences: str | None = None  # of viewers, as serve/stores/preferences.py
    audit_log: str | None = None  # directory for scores that side_effects.audit samples
    limits: Limits = Limits()
    recent: RecentSettings = RecentSettings()  # posts that the in-network source finds
    # Where events are written: the file holds for one machine, several need Kafka.
    journal: JournalSettings = SqliteSettings()
    live: LiveSettings = LiveSettings()  # how replicas follow the journal
    # What viewers did lately and were shown: the file holds for one machine, several need Redis.
    viewers: ViewerSettings = ViewersInFile(path="artifacts/live/viewers.db")
    retrieval: RetrieverSettings = RetrieverSettings()  # how posts near a viewer are found
    ranking: RankerSettings = RankerSettings()  # how candidates are scored
    new_posts: NewPostsSettings = NewPostsSettings()  # how models learn of posts told since
    torch_threads: PositiveInt = 1  # per replica; more are slower where cores are shared

    @model_validator(mode="after")
    def _has_room_for_shards(self) -> Self:
        if self.retrieval.shards > 1 and self.topology == "fused":
            raise ValueError(
                f"retrieval.shards: {self.retrieval.shards} with topology: fused, where one "
                "replica holds all; shards are deployments: take topology: dag, or shards: 1"
            )
        return self

    @field_validator("feeds")
    @classmethod
    def _has_a_timeline(cls, feeds: dict[str, str]) -> dict[str, str]:
        if TIMELINE not in feeds:
            raise ValueError(f"no {TIMELINE!r}, which requests get{near_miss(TIMELINE, feeds)}")
        return feeds


def on_disk(settings: S, name: str = "path") -> S:
    """The same with its `path`, or that of another name, if it has one, from the project on."""
    path = getattr(settings, name, None)
    return settings.model_copy(update={name: absolute(path)}) if path else settings


def watched(path: str | None, read: Callable[[str], T]) -> Watched[T] | None:
    """A file that is read again when another is put in its place; None = there is none."""
    return Watched(absolute(path), read) if path else None


def absolute(path: str) -> str:
    """The path from the project on; a place that is no local path stays as it is."""
    return path if "://" in path else str(_ROOT / path)
