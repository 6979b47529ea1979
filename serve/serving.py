"""All that comes from one bundle, and what it cannot be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.feed.explain import Explainer
from serve import api
from serve.diagnostics import Diagnostics
from serve.live.state import LiveState
from serve.models import Models, version
from serve.stores.bundle import Stores
from serve.stores.labels import LabelStore
from train.bundle import Bundle

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
