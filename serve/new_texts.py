"""Vectors of new posts' texts, made as those of the bundle were."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from pipelines.data.encoder import EncoderSettings, identity
from pipelines.data.reader import InputError
from train.bundle import Bundle
from train.prefix_index import PREFIX

_log = logging.getLogger("ray.serve")
_NONE = (0, np.zeros(0, np.float32))
Encode = Callable[[Sequence[str]], NDArray[np.float16]]


class NewTexts:
    """Encodes texts with the encoder of the bundle, each once while its post is kept.

    Attributes:
        problem: why posts go in without their text, None = they go in with it.
    """

    def __init__(self, make_encoder: Callable[[EncoderSettings], Encode]) -> None:
        self._make_encoder = make_encoder
        self._encoder: Encode | None = None
        self._made_of: str | None = None  # settings of the encoder
        self._width = 0
        # Post -> its text, as a hash, and the vector: a post may come back with other words.
        self._kept: dict[int, tuple[int, NDArray[np.float32]]] = {}
        self.problem: str | None = None

    def use(self, bundle: Bundle) -> None:
        """Encode as the vectors of `bundle` were."""
        self.problem = None
        models = [model for kind, model in bundle.config.items() if kind != PREFIX]
        reads = [model["features"].get("content_size", 0) for model in models]
        needed = any(reads) or PREFIX in bundle.config
        self._width = bundle.facts.content.shape[1] if needed else 0
        if not self._width:
            return
        note: dict[str, Any] = bundle.card.get("content") or {}
        settings = EncoderSettings.model_validate(note.get("encoder", {}))
        try:
            if note and identity(settings) != note["identity"]:
                raise InputError(f"encoder {settings.name} is another than the bundle's")
            if settings.model_dump_json() != self._made_of or self._encoder is None:
                self._kept, self._made_of = {}, settings.model_dump_json()
                self._encoder = self._load(settings)
        except InputError as error:
            self._without_text(str(error))

    def vectors(self, posts: pa.Table) -> NDArray[np.float32] | None:
        """As `Knows.add_posts` takes them."""
        if not self._width:
            return None
        ids, content = posts["post_id"].to_pylist(), np.zeros((len(posts), self._width), np.float32)
        texts = pc.utf8_trim_whitespace(pc.fill_null(posts["text"], "")).to_pylist()
        kept = [self._kept.get(one, _NONE) for one in ids]
        new = [row for row, text in enumerate(texts) if text and kept[row][0] != hash(text)]
        if new and self._encoder is not None:
            encoded = self._encoder([texts[row] for row in new]).astype(np.float32)
            if encoded.shape[1] != self._width:
                said = f"the encoder gives {encoded.shape[1]} numbers, the bundle has {self._width}"
                self._without_text(said)
            else:
                for row, vector in zip(new, encoded, strict=True):
                    kept[row] = self._kept[ids[row]] = hash(texts[row]), vector
        for row, text in enumerate(texts):
            if text and kept[row][0] == hash(text):
                content[row] = kept[row][1]
        return content

    def forget(self, post_id: list[int]) -> None:
        """Keep no vectors of these."""
        for one in post_id:
            self._kept.pop(one, None)

    def _load(self, settings: EncoderSettings) -> Encode:
        num_threads = torch.get_num_threads()  # an encoder sets it for the whole process
        try:
            return self._make_encoder(settings)
        finally:
            torch.set_num_threads(num_threads)

    def _without_text(self, why: str) -> None:
        self._encoder, self._kept = None, {}
        self.problem = f"new posts go in without their text: {why}"
        _log.error(self.problem)
