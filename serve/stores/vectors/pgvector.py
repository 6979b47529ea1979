"""Vectors in PostgreSQL with pgvector, one table a bundle, which all replicas share.

Whichever replica comes first fills a bundle's table, in one transaction under an advisory lock;
the others wait for it. Vectors of two models never meet: the table's name has the bundle's
version. Axes as in index.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from serve.stores.vectors.connections import Connection, Connections
from serve.stores.vectors.index import Ids, Topics, Vectors, VectorsError, last_of_each
from serve.stores.vectors.settings import PgVectorSettings
from train.index import PostIndex

_NEAREST = sql.SQL(
    "SELECT post_id, -(vector <#> %(query)s::vector) FROM {table} "
    "ORDER BY vector <#> %(query)s::vector LIMIT %(num)s"
)
# All of them compared: an index over vectors would pass by most that are on a rare topic.
_NEAREST_ON = sql.SQL(
    "WITH found AS MATERIALIZED "
    "(SELECT post_id, vector FROM {table} WHERE topic_ids && %(topics)s::bigint[]) "
    "SELECT post_id, -(vector <#> %(query)s::vector) FROM found "
    "ORDER BY vector <#> %(query)s::vector LIMIT %(num)s"
)
_SIMILARITY = sql.SQL("SELECT -(vector <#> %s::vector) FROM {table} WHERE post_id = %s")
_UPSERT = sql.SQL(
    "INSERT INTO {table} (post_id, topic_ids, vector) VALUES (%s, %s, %s::vector) "
    "ON CONFLICT (post_id) DO UPDATE "
    "SET topic_ids = excluded.topic_ids, vector = excluded.vector"
)
_REMOVE = sql.SQL("DELETE FROM {table} WHERE post_id = ANY(%s)")


class PgVectors:
    """A `VectorIndex` in one table; what was added lasts, and other replicas see it at once."""

    def __init__(self, connections: Connections, table: str) -> None:
        """Use a table that is filled; see `filled`."""
        self._connections = connections
        self.table = sql.Identifier(table)

    @classmethod
    def filled(
        cls, settings: PgVectorSettings, version: str, index: PostIndex, topic_ids: Ids
    ) -> PgVectors:
        """The table of a bundle, filled now unless it was before.

        Args:
            settings: how to reach it.
            version: of the bundle; letters, digits and underscores.
            index: the bundle's vectors.
            topic_ids: of the posts of `index`, in its order. [N, T], 0 = none.

        Raises:
            VectorsError: it cannot be reached, lacks pgvector, or was not filled in time.
            ConfigError: the environment variable with its address is missing.
        """
        connections = Connections(settings)
        filling = _Filling(settings, f"{settings.prefix}_{version}", index, topic_ids)
        connections.run(filling.do, settings.fill_timeout_s)
        return cls(connections, filling.name)

    def add(self, post_id: Ids, vectors: Vectors, topic_ids: Ids) -> None:
        """As `VectorIndex.add`."""
        rows = last_of_each(post_id)  # by id: two replicas lock rows in one order
        values = list(_rows(post_id[rows], vectors[rows], topic_ids[rows]))

        def work(connection: Connection) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(self._of(_UPSERT), values)

        self._connections.run(work)

    def remove(self, post_id: Ids) -> None:
        """As `VectorIndex.remove`."""
        self._connections.run(lambda c: c.execute(self._of(_REMOVE), (post_id.tolist(),)))

    def search(
        self, query: Vectors, num_posts: int, topics: Sequence[Topics] | None = None
    ) -> tuple[Ids, Vectors]:
        """As `VectorIndex.search`, one statement a query, sent together."""
        asked = topics or [()] * len(query)

        def work(connection: Connection) -> list[list[tuple[int, float]]]:
            with connection.pipeline():
                cursors = [
                    connection.execute(
                        self._of(_NEAREST_ON if wanted else _NEAREST),
                        {"query": _text(one), "num": num_posts, "topics": list(wanted)},
                    )
                    for one, wanted in zip(query, asked, strict=True)
                ]
                return [cursor.fetchall() for cursor in cursors]

        found = self._connections.run(work)
        width = max(map(len, found), default=0)
        post_id = np.zeros((len(query), width), np.int64)
        similarity = np.full(post_id.shape, -np.inf, np.float32)
        for row, posts in enumerate(found):
            if posts:
                post_id[row, : len(posts)], similarity[row, : len(posts)] = zip(*posts, strict=True)
        return post_id, similarity

    def similarity(self, query: Vectors, post_id: Ids) -> Vectors:
        """As `VectorIndex.similarity`."""

        def work(connection: Connection) -> list[tuple[float] | None]:
            with connection.pipeline():
                cursors = [
                    connection.execute(self._of(_SIMILARITY), (_text(one), which))
                    for one, which in zip(query, post_id.tolist(), strict=True)
                ]
                return [cursor.fetchone() for cursor in cursors]

        found = self._connections.run(work)
        return np.array([np.nan if row is None else row[0] for row in found], np.float32)

    def close(self) -> None:
        """Close the connections; the table stays."""
        self._connections.close()

    def _of(self, statement: sql.SQL) -> sql.Composed:
        return statement.format(table=self.table)


class _Filling:
    """Makes the table of a bundle, unless it is there."""

    def __init__(
        self, settings: PgVectorSettings, name: str, index: PostIndex, topic_ids: Ids
    ) -> None:
        self.settings, self.name, self.index, self.topic_ids = settings, name, index, topic_ids
        self.tables = sql.Identifier(f"{settings.prefix}_tables")

    def do(self, connection: Connection) -> None:
        """All of it or nothing; waits for whoever does the same just now."""
        with connection.transaction():
            lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
            connection.execute(lock, (self.settings.prefix,))
            self._extension(connection)
            self._execute(
                connection,
                "CREATE TABLE IF NOT EXISTS {tables} "
                "(name text PRIMARY KEY, used_at timestamptz NOT NULL)",
            )
            use = "UPDATE {tables} SET used_at = clock_timestamp() WHERE name = %s"
            if self._execute(connection, use, self.name).rowcount:
                return
            self._fill(connection)
            add = "INSERT INTO {tables} VALUES (%s, clock_timestamp())"
            self._execute(connection, add, self.name)
            self._drop_old(connection)

    def _extension(self, connection: Connection) -> None:
        there = "SELECT 1 FROM pg_extension WHERE extname = 'vector'"
        if connection.execute(there).fetchone():
            return
        try:
            connection.execute("CREATE EXTENSION vector")
        except psycopg.Error as error:
            raise VectorsError(
                f"PostgreSQL has no extension vector, and it cannot be made ({error}); install "
                "pgvector there, then run CREATE EXTENSION vector as its administrator"
            ) from error

    def _fill(self, connection: Connection) -> None:
        settings, vectors = self.settings, self.index.stored()
        self._execute(
            connection,
            "CREATE TABLE {table} (post_id bigint PRIMARY KEY, topic_ids bigint[] NOT NULL, "
            f"vector vector({vectors.shape[1]}) NOT NULL)",
        )
        copy = sql.SQL("COPY {table} (post_id, topic_ids, vector) FROM STDIN").format(
            table=sql.Identifier(self.name)
        )
        with connection.cursor() as cursor, cursor.copy(copy) as rows:
            for row in _rows(self.index.post_id, vectors, self.topic_ids):
                rows.write_row(row)
        self._execute(connection, "CREATE INDEX ON {table} USING gin (topic_ids)")
        if len(vectors) >= settings.hnsw_from:
            self._execute(
                connection,
                "CREATE INDEX ON {table} USING hnsw (vector vector_ip_ops) WITH "
                f"(m = {settings.hnsw_links}, ef_construction = {settings.hnsw_ef_build})",
            )
        self._execute(connection, "ANALYZE {table}")

    def _drop_old(self, connection: Connection) -> None:
        """Those of bundles that were longest not opened."""
        old = "SELECT name FROM {tables} ORDER BY used_at DESC OFFSET %s"
        for (name,) in self._execute(connection, old, self.settings.num_tables).fetchall():
            connection.execute(
                sql.SQL("DROP TABLE IF EXISTS {table}").format(table=sql.Identifier(name))
            )
            self._execute(connection, "DELETE FROM {tables} WHERE name = %s", name)

    def _execute(
        self, connection: Connection, statement: str, *values: object
    ) -> psycopg.Cursor[Any]:
        names = {"table": sql.Identifier(self.name), "tables": self.tables}
        return connection.execute(sql.SQL(statement).format(**names), values or None)


def _rows(post_id: Ids, vectors: Vectors, topic_ids: Ids) -> Any:
    """Values of the columns of each post."""
    for one, vector, topics in zip(post_id.tolist(), vectors, topic_ids.tolist(), strict=True):
        yield one, [topic for topic in topics if topic], _text(vector)


def _text(vector: Vectors) -> str:
    """A vector as pgvector reads it; no digit is lost."""
    return json.dumps(vector.tolist())
