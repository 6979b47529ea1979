"""Files of a table in the contract of `pipelines.schema`: found and streamed, values unchecked.

Parquet or JSON lines (also .gz). Columns that may be null may also be left out; any other column
is an error. JSON lines hold one object a line; days are written "2022-05-06".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.data import check, files, text
from pipelines.data.reader import Batch, Fragment, InputError
from pipelines.schema import TableSchema


def fragments(table: TableSchema, places: Sequence[str], advice: str) -> list[Fragment]:
    """Files by name, place after place; row groups of a file in their order.

    Args:
        table: the contract.
        places: files, folders or globs, on disk or at any fsspec URL.
        advice: what to do where nothing is there.

    Raises:
        MissingInputError: nothing is at one of the places.
        InputError: a file that is no table, or whose columns are not as declared.
    """
    paths = [path for place in places for path in files.find_files(place, advice)]
    return [fragment for path in paths for fragment in _pieces(table, path)]


def read(fragment: Fragment, table: TableSchema) -> Iterator[Batch]:
    """Stream a row group, or a file of JSON lines.

    Raises:
        InputError: a file cannot be read, or a line has a column of an unknown name.
    """
    if fragment.row_group is not None:
        return files.read_parquet(fragment)
    return text.read_json_lines(fragment, table.arrow)


def _pieces(table: TableSchema, path: str) -> list[Fragment]:
    if path.endswith(files.PARQUET):
        pieces, schema = files.parquet_fragments(table.name, path)
        check.columns(schema, table, path)
        return pieces
    if path.removesuffix(".gz").endswith(files.JSON_LINES):
        return [text.text_fragment(table.name, path)]
    raise InputError(f"{path}: not a table; allowed: .parquet, .jsonl, .ndjson, .json (also .gz)")
