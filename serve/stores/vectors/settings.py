"""Settings of vector indexes, and what opens the one that they name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from configs import Config, ConfigError
from serve.stores.vectors.faiss import FaissVectors
from serve.stores.vectors.index import VectorIndex, topics_of
from train.bundle import Bundle


class PgVectorSettings(Config):
    """How PostgreSQL is reached and used; it needs the extension pgvector, 0.8 or newer."""

    # Environment variable with the connection string, as it may hold a password.
    dsn_env: str = "RAYFEED_VECTORS_DSN"
    # Names of tables start like this: PREFIX_VERSION, one a bundle, and PREFIX_tables.
    prefix: str = Field(default="rayfeed_vectors", pattern=r"^[a-z][a-z0-9_]{0,40}$")
    num_tables: PositiveInt = 3  # newest bundles whose tables are kept; a serving one must be
    # Posts from which a bundle's table gets an HNSW index; fewer are compared one by one.
    hnsw_from: PositiveInt = 20_000
    hnsw_links: int = Field(default=16, ge=2, le=100)  # pgvector's m
    hnsw_ef_build: int = Field(default=128, ge=4, le=1_000)
    hnsw_ef_search: int = Field(default=200, ge=1, le=1_000)
    num_connections: PositiveInt = 4  # kept open when idle, by each replica
    connect_timeout_s: int = Field(default=2, ge=1)
    timeout_s: PositiveFloat = 1.0  # of one statement
    fill_timeout_s: PositiveFloat = 1_800.0  # of filling a table, or waiting for who fills it
    retry_after_s: NonNegativeFloat = 2.0  # after a failure calls fail at once for so long


class VectorSettings(Config):
    """Where the vectors of posts are kept."""

    kind: Literal["faiss", "pgvector"] = "faiss"  # in each replica's memory, or in PostgreSQL
    merge_after: PositiveInt = 10_000  # faiss: posts added, or taken out, until they are merged
    pgvector: PgVectorSettings = PgVectorSettings()


def open_vectors(settings: VectorSettings, bundle: Bundle, version: str) -> VectorIndex:
    """The vectors of a bundle's posts, to which others may be added.

    Args:
        settings: where they are.
        bundle: whose posts.
        version: tells bundles apart, as `serve.services.version`.

    Raises:
        VectorsError: PostgreSQL cannot be reached, or lacks pgvector.
        ConfigError: the package psycopg or the environment variable is missing.
    """
    index = bundle.load_index()
    posts = bundle.post_columns("post_id", "topic_ids")
    topic_ids = topics_of(posts)  # one a row of the index, which is in this order
    if settings.kind == "faiss":
        return FaissVectors(index, topic_ids, settings.merge_after)
    try:
        from serve.stores.vectors.pgvector import PgVectors
    except ImportError as error:
        raise ConfigError(
            f"vectors.kind: pgvector needs the package psycopg ({error}); "
            "pip install 'psycopg[binary]'"
        ) from error
    return PgVectors.filled(settings.pgvector, version, index, topic_ids)
