"""`python -m pipelines.data.encode DATA [key=value …]`: posts' texts become vectors, once.

DATA is a folder that the data job wrote. Beside its posts.parquet appear content.npy, float16
unit vectors, and content_ids.npy, whose they are, sorted; a post without a text has none.
Vectors are kept by text and encoder, so that only new texts are ever encoded, and a run that was
stopped goes on where it was.

Axes: n texts, E width of the encoder.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt
from rich.console import Console
from rich.progress import Progress

from configs import Config, ConfigError, check, parse_overrides
from pipelines.data.encoder import Encoder, EncoderSettings, identity
from pipelines.data.reader import InputError
from pipelines.facts import CONTENT, CONTENT_IDS
from pipelines.prepared import is_prepared, note
from pipelines.whole import new_file, save_array

# Lists of texts -> the place of each list and the vectors of its texts, in any order.
Pool = Callable[["EncodeConfig", Sequence[list[str]]], Iterator[tuple[int, NDArray[np.float16]]]]


class EncodeConfig(Config):
    """One run of the encoding."""

    encoder: EncoderSettings = EncoderSettings()
    cache: str = "artifacts/encoded"  # vectors by encoder and text, for all data sets
    chunk_texts: PositiveInt = 256  # encoded by one actor at a time, and kept when done
    batch_size: PositiveInt = 32  # texts in one pass of the encoder
    num_actors: PositiveInt = 1  # encoders side by side
    cpus_per_actor: PositiveFloat = 1.0  # reserved; each uses one thread


def encode(data: Path, config: EncodeConfig, pool: Pool) -> tuple[int, int]:
    """Write content.npy and content_ids.npy of a prepared data set.

    Args:
        data: written by the data job.
        config: which encoder, and where its vectors are kept.
        pool: what encodes.

    Returns:
        How many posts have a vector, and how many texts had to be encoded for it.

    Raises:
        InputError: no prepared data, not a single text in it, or no such encoder.
    """
    post_id, texts = _texts(data)
    content, num_new = encode_texts(texts, config, pool)
    save_array(data / CONTENT, content)
    save_array(data / CONTENT_IDS, post_id)
    said = {
        "encoder": config.encoder.model_dump(mode="json"),
        "identity": identity(config.encoder),
        "posts": len(post_id),
        "size": content.shape[1],
    }
    note(data, "content", said)
    return len(post_id), num_new


def encode_texts(
    texts: Sequence[str], config: EncodeConfig, pool: Pool
) -> tuple[NDArray[np.float16], int]:
    """Vectors of any texts, of which those that the cache lacks are encoded and kept.

    Args:
        texts: at least one.
        config: which encoder, and where its vectors are kept.
        pool: what encodes.

    Returns:
        float16 [n, E] in the order of `texts`, and how many texts had to be encoded for it.

    Raises:
        InputError: no such encoder.
    """
    cache = Cache(Path(config.cache) / identity(config.encoder))
    key = np.array([text_key(text) for text in texts])
    unique, first, of = np.unique(key, return_index=True, return_inverse=True)
    new = first[~np.isin(unique, cache.load()[0])]
    new = new[np.argsort([len(texts[at]) for at in new], kind="stable")[::-1]]  # little padding
    chunks = [new[at : at + config.chunk_texts] for at in range(0, len(new), config.chunk_texts)]
    work = [[texts[at] for at in chunk] for chunk in chunks]
    for at, vectors in pool(config, work) if work else ():
        cache.add(key[chunks[at]], vectors)
    known, vectors = cache.load()
    return vectors[np.searchsorted(known, unique)][of], len(new)


class Cache:
    """Vectors by text, one file for each chunk that was encoded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> tuple[NDArray, NDArray[np.float16]]:
        """All that is known: sorted keys [n] and their vectors [n, E]."""
        parts = [np.load(file) for file in sorted(self.folder.glob("*.npz"))]
        if not parts:
            return np.empty(0, "S32"), np.empty((0, 0), np.float16)
        keys = np.concatenate([part["key"] for part in parts])
        keys, first = np.unique(keys, return_index=True)
        return keys, np.concatenate([part["vector"] for part in parts])[first]

    def add(self, keys: NDArray, vectors: NDArray[np.float16]) -> None:
        """Keep a chunk: all of it or, if this is stopped, nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(keys.tobytes()).hexdigest()[:32]
        with new_file(self.folder / f"{name}.npz") as file:
            np.savez(file, key=keys, vector=vectors)


def text_key(text: str) -> bytes:
    """Names a text: half of its sha256 in hex, 32 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()[:32].encode()


def in_process(
    config: EncodeConfig, work: Sequence[list[str]]
) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """The `Pool` that is this process."""
    encoder = Encoder(config.encoder, config.batch_size)
    return ((at, encoder(texts)) for at, texts in enumerate(work))


def over_actors(
    config: EncodeConfig, work: Sequence[list[str]]
) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """The `Pool` of Ray Data actors, each with an encoder of its own; shows progress."""
    import ray.data

    from pipelines.runtime import connect, quiet_data

    Encoder(config.encoder)  # one that cannot be loaded is said here, and once
    connect()
    quiet_data()
    tables = [
        pa.table({"chunk": pa.array([at] * len(texts), pa.int64()), "text": texts})
        for at, texts in enumerate(work)
    ]
    vectors = ray.data.from_arrow(tables).map_batches(
        _Actor,
        fn_constructor_kwargs={"config": config.model_dump(mode="json")},
        batch_size=None,  # a block, which is a chunk
        compute=ray.data.ActorPoolStrategy(size=config.num_actors),
        num_cpus=config.cpus_per_actor,
    )
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("encoding texts", total=sum(map(len, work)))
        for batch in vectors.iter_batches(batch_size=None, prefetch_batches=0):
            yield int(batch["chunk"][0]), batch["vector"]
            progress.advance(bar, len(batch["chunk"]))


class _Actor:
    """One encoder of the pool."""

    def __init__(self, config: dict) -> None:
        settings = EncodeConfig.model_validate(config)
        self.encoder = Encoder(settings.encoder, settings.batch_size)

    def __call__(self, batch: dict[str, NDArray]) -> dict[str, NDArray]:
        return {"chunk": batch["chunk"], "vector": self.encoder(batch["text"].tolist())}


def _texts(data: Path) -> tuple[NDArray[np.int64], list[str]]:
    """Posts with a text in the order of their ids, and those texts."""
    if not is_prepared(data):
        raise InputError(f"{data}: no prepared data; run `python -m pipelines.data` first")
    posts = pq.read_table(data / "posts.parquet", columns=["post_id", "text"]).sort_by("post_id")
    text = pc.utf8_trim_whitespace(pc.fill_null(posts["text"], ""))
    has = pc.not_equal(text, "")
    if not pc.any(has).as_py():
        raise InputError(f"{data}/posts.parquet: no post has a text; its reader gives none")
    return posts["post_id"].filter(has).to_numpy(), text.filter(has).to_pylist()


def main(arguments: list[str]) -> int:
    """Encode what the arguments name; 1 and a message when that cannot be done."""
    console = Console(stderr=True)
    if not arguments or arguments[0].startswith("-"):
        console.print("usage: python -m pipelines.data.encode DATA [key=value …]", markup=False)
        return 2
    try:
        config = check(parse_overrides(arguments[1:]), EncodeConfig, place="settings")
        num_posts, num_encoded = encode(Path(arguments[0]), config, over_actors)
    except (ConfigError, InputError) as error:
        console.print(f"error: {error}", markup=False, style="red", soft_wrap=True)
        return 1
    print(f"{arguments[0]}: {num_posts:,} posts have a vector, {num_encoded:,} texts encoded anew")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
