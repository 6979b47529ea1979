"""All that comes from one bundle, and what it cannot be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from pipelines.feed.explain import Explainer
from pipelines.feed.pipeline import Pipeline
from pipelines.feed.scorers.interference import Interference
from serve import api
from serve.diagnostics import Diagnostics
from serve.live.state import LiveState
from serve.models import Models, version
from serve.stores.bundle import Stores
from serve.stores.labels import LabelStore
from train.bundle import Bundle, BundleError

NO_PREFIX = (
    "no prefix vectors; write the bundle with --prefix RUN, a run of "
    "python -m train configs/prefix/posts.yaml"
)


class UnknownPostError(LookupError):
    """A post that was never heard of, or was deleted."""


class NoPrefixError(LookupError):
    """A zoom is asked of a bundle without prefix vectors."""

    def __init__(self, bundle: str) -> None:
        super().__init__(f"zoom: the bundle {bundle}: {NO_PREFIX}")


def check_feed(name: str, feed: Pipeline, bundle: Bundle) -> None:
    """Refuse a feed that asks for what a bundle cannot give, before any request does.

    Raises:
        BundleError: it names the feed's setting.
    """
    if feed.needs_prefix and not bundle.has_prefix:
        raise BundleError(f"the feed {name} sets {feed.needs_prefix}; {NO_PREFIX}")
    for one in feed.components:
        if isinstance(one, Interference):
            try:
                bundle.interference.field.weighing(one.scale_weights)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                raise BundleError(f"the feed {name}: {one.key}.scale_weights: {reason}") from None


@dataclass(frozen=True)
class Serving:
    """All that comes from one bundle; a request sees one of these from start to end.

    Attributes:
        actions: learned ones -> column of p_action.
        has_prefix: whether the bundle has prefix vectors, which a zoom needs.
    """

    model: api.Model
    explainer: Explainer
    actions: dict[str, int]
    stores: Stores
    models: Models
    diagnostics: Diagnostics
    has_prefix: bool

    @classmethod
    def of(
        cls, bundle: Bundle, models: Models, live: LiveState, labels: Callable[[], LabelStore]
    ) -> Serving:
        """Index the tables of `bundle`; takes time and memory in proportion to them.

        Args:
            bundle: from now on `live` adds to its tables what comes.
            models: those of the bundle.
            live: what came since.
            labels: those of posts and authors, as they are when asked.
        """
        stores = Stores.of(bundle, live)
        model = api.Model(bundle=bundle.path, version=version(bundle), as_of_ms=bundle.as_of_ms)
        observed = bundle.card["observed_actions"]
        return cls(
            model=model,
            explainer=Explainer(bundle.actions),
            actions={
                name: column for column, name in enumerate(bundle.actions) if name in observed
            },
            stores=stores,
            models=models,
            diagnostics=Diagnostics(stores, model, labels),
            has_prefix=bundle.has_prefix,
        )

    def check_zoom(self, zoom: api.Level | None) -> None:
        """NoPrefixError if there is a zoom, and no prefix vectors to do it with."""
        if zoom is not None and not self.has_prefix:
            raise NoPrefixError(self.model.bundle)

    def check_post(self, post_id: int) -> None:
        """UnknownPostError if the post was never heard of, or was deleted."""
        if not self.stores.posts.has(post_id):
            raise UnknownPostError(f"post {post_id}: never heard of, or deleted")
