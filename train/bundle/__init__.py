"""All that crosses from training to serving, as one directory that never changes.

    ranker.safetensors retrieval.safetensors    weights; the ranker's are not in one by text alone
    config.json      resolved settings of both models
    schema.json      actions and columns the models depend on, with their hash
    blend.json       weight of each action in a post's score
    card.json        metrics beside their baselines, git commit, date, data fingerprint
    index/           FAISS index over the post tower's vectors
    tables/          posts (with popularity), users, follows, profiles, rates, text vectors
    prefix/          with --prefix: an index for each prefix of the posts' embeddings
    ranker.pt2       of `python -m train.bundle.compiled`: the ranker's passes as machine code

`python -m train.bundle --retrieval RUN --ranker RUN --data DIR --out DIR` writes one;
`--prefix RUN` adds embeddings that can be searched coarse to fine.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from configs import check
from pipelines.facts import Facts
from pipelines.features import (
    FeatureSpec,
    History,
    candidate_inputs,
    history_inputs,
    history_rows,
)
from pipelines.feed.services import Space
from pipelines.schema import schema_changes, schema_hash, schema_spec
from train.bundle.part import Part
from train.index import PostIndex
from train.models.fractal.blend import InterferenceBlend
from train.models.package import Package
from train.models.prefix import PrefixConfig, SeparatedHead
from train.models.ranker import Ranker, RankerConfig
from train.models.retrieval import RetrievalConfig
from train.models.text_towers import TextRanker, TextTowers, Towers, make_towers
from train.models.tokens import Tensors, tensors
from train.prefix_index import PREFIX, PrefixIndex

M = TypeVar("M", bound=nn.Module)
PACKAGE = "ranker.pt2"
_JSON_FILES = ("card", "config", "schema", "blend")


class BundleError(ValueError):
    """A bundle that cannot be used; the text says which file and why."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle; models and index are read when asked for.

    Attributes:
        path: where it was loaded from.
        folder: its local copy.
        card: metrics, baselines and origin; `observed_actions` are those that it has learned.
        actions: names in the order of the ranker's outputs, A.
        weights: value of each action's probability, or of a second. float64 [A].
        as_of_ms: when the newest event known to the tables was shown.
        part: the posts that its indexes, facts and columns of posts are of; None = all.
    """

    path: str
    folder: Path
    card: dict[str, Any]
    config: dict[str, Any]
    actions: tuple[str, ...]
    weights: NDArray[np.float64]
    as_of_ms: int
    part: Part | None = None

    def of_part(self, part: Part) -> Bundle:
        """The same, of a part of its posts; the others are not loaded."""
        return replace(self, part=part)

    def holds(self, post_id: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each post [n] is in its part, known to it or not."""
        return np.ones(len(post_id), np.bool_) if self.part is None else self.part.has(post_id)

    @property
    def _which(self) -> Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None:
        return None if self.part is None else self.part.has

    def load_ranker(self) -> Ranker | TextRanker:
        """The ranker with its trained weights, or the one by text, in evaluation mode."""
        if "ranker" not in self.config:
            towers = self.load_two_tower()
            assert isinstance(towers, TextTowers)  # see train.content_bundle
            return TextRanker(towers, len(self.actions)).eval()
        model = Ranker(RankerConfig.model_validate(self.config["ranker"]))
        return _with_weights(model, self.folder / "ranker.safetensors")

    def unknown_inputs(self, spec: FeatureSpec, num_viewers: int, num_candidates: int) -> Tensors:
        """What a ranker reads of viewers and posts of whom nothing is known; none is padding."""
        rows = history_rows([History.empty(1)] * num_viewers, [1] * num_viewers)
        ids = np.tile(np.arange(1, num_candidates + 1), (num_viewers, 1))
        surface, at_ms = np.ones_like(ids, np.int16), np.ones_like(ids)
        posts = candidate_inputs(rows, ids, ids, surface, at_ms, spec, self.facts)
        return tensors({**history_inputs(rows, spec, self.facts), **posts})

    @property
    def package(self) -> Package | None:
        """The ranker's passes as machine code, if there are."""
        card = self.card.get("compiled")
        return None if card is None else Package(self.folder / PACKAGE, card)

    def load_two_tower(self) -> Towers:
        """Both towers with their trained weights, in evaluation mode."""
        model = make_towers(RetrievalConfig.model_validate(self.config["retrieval"]))
        return _with_weights(model, self.folder / "retrieval.safetensors")

    def load_index(self) -> PostIndex:
        """The index over the post tower's vectors."""
        return PostIndex.load(self.folder / "index", self._which)

    @property
    def has_prefix(self) -> bool:
        """Whether posts can be searched coarse to fine."""
        return PREFIX in self.config

    def prefix_head(self) -> SeparatedHead:
        """What makes prefix vectors of vectors of text, in evaluation mode.

        Raises:
            BundleError: there are none.
        """
        if not self.has_prefix:
            raise BundleError(f"{self.path}: no prefix vectors; write it with --prefix RUN")
        head = SeparatedHead(PrefixConfig.model_validate(self.config[PREFIX]))
        return _with_weights(head, self.folder / f"{PREFIX}.safetensors")

    def load_prefix_index(self) -> PrefixIndex:
        """Prefix vectors of all posts with a text."""
        return PrefixIndex.load(self.folder / PREFIX, self._which)

    @cached_property
    def interference(self) -> InterferenceBlend:
        """How the interference field enters the feed; by itself it adds nothing.

        Raises:
            ConfigError: the card says what cannot be.
            BundleError: it asks for prefix vectors, and there are none.
        """
        blend = check(self.card.get("interference", {}), InterferenceBlend, f"{self.path}: card")
        self.check_space(blend.space)
        return blend

    def check_space(self, space: Space | None) -> None:
        """BundleError where a field is to be computed of vectors that there are not."""
        if space == "prefix" and not self.has_prefix:
            raise BundleError(
                f"{self.path}: interference.space: 'prefix': no prefix vectors; "
                "write it with --prefix RUN"
            )

    @property
    def feed_settings(self) -> dict[str, Any]:
        """What the timeline was tuned to, where feed.yaml says nothing: stage.component.setting."""
        return self.card.get("feed", {})

    @cached_property
    def facts(self) -> Facts:
        """What the models read of posts and viewers, as of the newest event.

        Of a part, what places posts to come: no rates, and of posts in the bundle no text.
        """
        return Facts.load(self.folder / "tables", self.actions, self._which)

    @cached_property
    def posts(self) -> pa.Table:
        """schema.POSTS, with popularity float64 in [0, 1] and num_shown int64."""
        return pq.read_table(self.folder / "tables" / "posts.parquet")

    def post_columns(self, *names: str) -> pa.Table:
        """Some columns of `posts`, `post_id` among them, in the order of the index; not kept."""
        table = pq.read_table(self.folder / "tables" / "posts.parquet", columns=[*names])
        return table.filter(pa.array(self.holds(table["post_id"].to_numpy())))

    @cached_property
    def users(self) -> pa.Table:
        """schema.USERS."""
        return pq.read_table(self.folder / "tables" / "users.parquet")

    @cached_property
    def follows(self) -> pa.Table:
        """schema.FOLLOWS."""
        return pq.read_table(self.folder / "tables" / "follows.parquet")

    @cached_property
    def profiles(self) -> pa.Table:
        """user_id and the history columns of schema.EXAMPLES: each viewer's newest events."""
        return pq.read_table(self.folder / "tables" / "profiles.parquet")


def load(path: str | Path) -> Bundle:
    """Open a bundle on any fsspec path; a remote one is copied to a temporary folder.

    Raises:
        BundleError: not a bundle, or its actions or columns differ from the code's.
    """
    folder = _local(str(path))
    try:
        files = {name: json.loads((folder / f"{name}.json").read_text()) for name in _JSON_FILES}
    except OSError as error:
        raise BundleError(f"{path}: not a bundle: {error.strerror}: {error.filename}") from error
    except json.JSONDecodeError as error:
        raise BundleError(f"{path}: a damaged bundle: {error}") from error
    _check_schema(str(path), files["schema"])
    return Bundle(
        path=str(path),
        folder=folder,
        card=files["card"],
        config=files["config"],
        actions=tuple(files["blend"]),
        weights=np.array(list(files["blend"].values())),
        as_of_ms=files["card"]["as_of_ms"],
    )


def _with_weights(model: M, file: Path) -> M:
    model.load_state_dict(load_file(file))
    return model.eval()


def _check_schema(path: str, theirs: dict[str, Any]) -> None:
    ours = schema_spec()
    if theirs["hash"] == schema_hash(ours):
        return
    changed = schema_changes(theirs["spec"], ours)
    raise BundleError(
        f"{path}: made for another schema; - the bundle's, + this code's:\n" + "\n".join(changed)
    )


def _local(path: str) -> Path:
    if "://" not in path:
        return Path(path).resolve()
    filesystem, root = fsspec.core.url_to_fs(path)
    folder = Path(tempfile.mkdtemp(prefix="bundle-"))
    filesystem.get(root.rstrip("/") + "/", str(folder) + "/", recursive=True)
    return folder
