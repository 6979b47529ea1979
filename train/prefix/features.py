"""Frozen vectors of labelled texts: encoded once, then read from the cache."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from pipelines.data.encode import EncodeConfig, Pool, encode_texts, over_actors
from pipelines.data.encoder import EncoderSettings
from train.prefix.labelled import LabelledTexts


class PooledSettings(EncoderSettings):
    """Vectors as pooled: a head may use their length, which says how sure the encoder is."""

    unit: bool = False


class PooledConfig(EncodeConfig):
    """One run of the encoding for heads."""

    encoder: PooledSettings = PooledSettings()


def features(
    texts: LabelledTexts, config: EncodeConfig, pool: Pool = over_actors
) -> NDArray[np.float32]:
    """The frozen encoder's vector of each text. float32 [N, E].

    Raises:
        InputError: there is no such encoder.
    """
    return encode_texts(texts.text, config, pool)[0].astype(np.float32)


def fingerprint(texts: LabelledTexts, vectors: NDArray[np.float32]) -> str:
    """Tells data apart on which a head would become another."""
    digest = hashlib.sha256(np.ascontiguousarray(vectors).tobytes())
    digest.update(np.ascontiguousarray(texts.labels).tobytes())
    digest.update(repr(texts.names).encode())
    return digest.hexdigest()[:16]
