"""Vectors of the texts that viewers search for, from the encoder that made those of the posts."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.data.encoder import Encoder, EncoderSettings, identity
from pipelines.data.reader import InputError

_log = logging.getLogger("ray.serve")
_KEPT = 1_024  # vectors of the texts asked for last


class QueryEncoder:
    """Encodes texts, where it can. Any thread may call it.

    Attributes:
        problem: why it cannot; None while it can, or has not tried yet.
    """

    def __init__(self, content: Mapping[str, Any] | None, size: int) -> None:
        """Load nothing yet.

        Args:
            content: what the bundle's card says of its vectors of text; None = nothing.
            size: numbers of such a vector, 0 = the bundle has none.
        """
        self._content, self._size = content, size
        self._encoder: Encoder | None = None
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._using = threading.Lock()
        self.problem: str | None = None

    def load(self) -> None:
        """Load the encoder, which takes seconds, or take note of why that cannot be done."""
        with self._using:
            if self._encoder is not None or self.problem is not None:
                return
            try:
                self._encoder = self._loaded()
            except InputError as error:
                self.problem = str(error)
                _log.warning("search goes by words alone: %s", error)

    def __call__(self, text: str) -> NDArray[np.float32] | None:
        """The unit vector of a text, float32 [E]; None where it cannot be told."""
        self.load()
        with self._using:
            if self._encoder is None:
                return None
            if text not in self._kept:
                self._kept[text] = self._encoder([text])[0].astype(np.float32)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(text)
            return self._kept[text]

    def _loaded(self) -> Encoder:
        if not self._size:
            raise InputError("the bundle has no vectors of text")
        if self._content is None:
            raise InputError("the bundle does not say which encoder made its vectors of text")
        settings = EncoderSettings.model_validate(self._content["encoder"])
        if identity(settings) != self._content["identity"]:
            raise InputError(f"encoder {settings.name} gives other vectors here than the bundle's")
        return Encoder(settings)
