"""Feeds whose experiments are taken up from another file while they are served."""

from __future__ import annotations

from configs import ConfigError, load
from pipelines.feed.discover import FeedConfig
from pipelines.feed.pipeline import Pipeline
from serve.stores.watched import Watched


def feed_file(path: str) -> Watched[Pipeline]:
    """The feed of a feed.yaml; another file in its place shares viewers out anew, if it may.

    It may differ in `experiments` alone: what else a feed is made of, stores and models were
    checked against at the start.

    Raises:
        ConfigError, WiringError: as `Pipeline.build`.
    """
    first = load(path, FeedConfig)
    feed = Pipeline.build(first)

    def read(path: str) -> Pipeline:
        config = load(path, FeedConfig)
        names = (name for name in FeedConfig.model_fields if name != "experiments")
        if other := [name for name in names if getattr(config, name) != getattr(first, name)]:
            raise ConfigError(
                f"{path}: {', '.join(other)}: only experiments change while a feed is served; "
                "restart the server for the rest"
            )
        feed.share_out(config.experiments)
        return feed

    return Watched(path, read)
