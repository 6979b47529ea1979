"""Streams CSV and JSON lines from disk or any fsspec URL, with row numbers.

Text is parsed block by block at full speed; only a block that does not parse is read again
leniently, to name the row and column at fault.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping

import fsspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.json as pj

from pipelines.data.check import unknown_column
from pipelines.data.files import first_line, row_numbers
from pipelines.data.reader import Batch, Fragment, InputError, Rejected

BLOCK_BYTES = 8 << 20  # parsed at a time
ROW_BYTES = 64  # of a guess at the rows of a file


def text_fragment(table: str, path: str) -> Fragment:
    """A text file as one fragment; the number of rows is a guess from its size."""
    fs, inner = fsspec.core.url_to_fs(path)
    return Fragment(table, path, int(fs.size(inner) or 0) // ROW_BYTES)


def read_csv(
    fragment: Fragment,
    types: Mapping[str, pa.DataType],
    *,
    names: list[str] | None = None,
    delimiter: str = ",",
    clean: Callable[[bytes], bytes] = bytes,
) -> Iterator[Batch]:
    """Stream the columns of `types` from a file of delimited lines.

    Args:
        fragment: of `text_fragment`.
        types: column -> Arrow type; other columns of the file are left out.
        names: all columns in order; None = the first line names them.
        delimiter: one byte.
        clean: applied to each block of lines before it is parsed.

    Raises:
        InputError: a column of `types` is not in the first line, or an unreadable file.
    """
    for first, block in _blocks(fragment.path, header=names is None):
        if names is None:
            names = _header(fragment.path, delimiter, types)
        block = clean(block)
        num_lines = block.count(b"\n") + (not block.endswith(b"\n"))
        try:
            table = _parse_csv(block, names, types, delimiter)
            if table.num_rows == num_lines:
                yield Batch(table, row_numbers(first, num_lines))
                continue
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            pass
        yield _lenient_csv(block, first, fragment, names, types, delimiter)


def read_json_lines(fragment: Fragment, schema: pa.Schema) -> Iterator[Batch]:
    """Stream objects, one a line; columns that a line leaves out are null.

    Raises:
        InputError: a name that is not in `schema`, or an unreadable file.
    """
    schema = pa.schema([field.with_nullable(True) for field in schema])
    for first, block in _blocks(fragment.path, header=False):
        num_lines = block.count(b"\n") + (not block.endswith(b"\n"))
        try:
            table = _parse_json(block, schema)
            if table.num_rows == num_lines:
                yield Batch(table, row_numbers(first, num_lines))
                continue
        except pa.ArrowInvalid:
            pass
        yield _lenient_json(block, first, fragment, schema)


def _blocks(path: str, header: bool) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a file, with the row number of the first; the header line left out."""
    first, rest = 1, b""
    try:
        with fsspec.open(path, "rb", compression="infer") as file:
            if header:
                file.readline()
            while chunk := file.read(BLOCK_BYTES):
                cut = chunk.rfind(b"\n") + 1
                block, rest = rest + chunk[:cut], chunk[cut:] if cut else rest + chunk
                if cut:
                    yield first, block
                    first += block.count(b"\n")
            if rest:
                yield first, rest
    except (OSError, EOFError, zlib.error) as error:
        at = f"row {first} or later"
        raise InputError(f"{path}: {at} cannot be read ({first_line(error)})") from error


def _header(path: str, delimiter: str, types: Mapping[str, pa.DataType]) -> list[str]:
    with fsspec.open(path, "rt", encoding="utf-8-sig", compression="infer") as file:
        names = [name.strip().strip('"') for name in file.readline().split(delimiter)]
    if missing := [name for name in types if name not in names]:
        raise InputError(f"{path}: column {missing[0]!r} is missing (have: {', '.join(names)})")
    return names


def _parse_csv(
    block: bytes,
    names: list[str],
    types: Mapping[str, pa.DataType],
    delimiter: str,
    on_bad_row: Callable[..., str] | None = None,
) -> pa.Table:
    return pc.read_csv(
        io.BytesIO(block),
        pc.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
        pc.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if delimiter == "," else False,
            invalid_row_handler=on_bad_row,
            ignore_empty_lines=False,
        ),
        pc.ConvertOptions(
            column_types=dict(types), include_columns=list(types), strings_can_be_null=True
        ),
    )


def _lenient_csv(
    block: bytes,
    first: int,
    fragment: Fragment,
    names: list[str],
    types: Mapping[str, pa.DataType],
    delimiter: str,
) -> Batch:
    rejected: list[Rejected] = []

    def refuse(row: int, column: str, value: str, reason: str) -> None:
        rejected.append(Rejected(fragment.table, fragment.path, row, column, value, reason))

    def on_bad_row(bad: pc.InvalidRow) -> str:
        reason = f"{bad.actual_columns} columns; expected {bad.expected_columns}"
        refuse(first + bad.number - 1, "(line)", repr(bad.text[:80]), reason)
        return "skip"

    texts = dict.fromkeys(types, pa.string())
    frame = pl.DataFrame(_parse_csv(block, names, texts, delimiter, on_bad_row))
    num_lines = block.count(b"\n") + (not block.endswith(b"\n"))
    rows = np.setdiff1d(row_numbers(first, num_lines), [r.row for r in rejected])
    cast = frame.cast(pl.Schema(pa.schema(list(types.items()))), strict=False)
    good = np.ones(len(rows), bool)
    for name, dtype in types.items():
        bad = (cast[name].is_null() & frame[name].is_not_null()).to_numpy() & good
        for at in np.flatnonzero(bad):
            refuse(int(rows[at]), name, repr(frame[name][int(at)]), f"expected {dtype}")
        good &= ~bad
    table = cast.filter(pl.Series(good)).to_arrow().cast(pa.schema(list(types.items())))
    return Batch(table, rows[good], rejected)


def _parse_json(block: bytes, schema: pa.Schema) -> pa.Table:
    reading = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
    given = pa.schema([f.with_type(pa.string()) if f.type == pa.date32() else f for f in schema])
    parsing = pj.ParseOptions(explicit_schema=given, unexpected_field_behavior="error")
    return pj.read_json(io.BytesIO(block), reading, parsing).select(schema.names).cast(schema)


def _lenient_json(block: bytes, first: int, fragment: Fragment, schema: pa.Schema) -> Batch:
    kept: list[bytes] = []
    rows: list[int] = []
    rejected: list[Rejected] = []
    for row, line in enumerate(block.splitlines(), first):
        if not line.strip():
            continue
        column, value, reason = _json_fault(line, row, fragment, schema)
        if reason:
            rejected.append(Rejected(fragment.table, fragment.path, row, column, value, reason))
        else:
            kept.append(line)
            rows.append(row)
    try:
        table = _parse_json(b"\n".join(kept), schema) if kept else schema.empty_table()
        return Batch(table, np.array(rows, np.int64), rejected)
    except pa.ArrowInvalid:
        return _one_by_one(kept, rows, rejected, fragment, schema)


def _one_by_one(
    lines: list[bytes],
    rows: list[int],
    rejected: list[Rejected],
    fragment: Fragment,
    schema: pa.Schema,
) -> Batch:
    """Lines of which Arrow refuses some that Python's JSON takes, as a key given twice."""
    tables = [schema.empty_table()]
    taken: list[int] = []
    rejected = list(rejected)
    for line, row in zip(lines, rows, strict=True):
        try:
            tables.append(_parse_json(line, schema))
            taken.append(row)
        except pa.ArrowInvalid as error:
            reason = f"cannot be parsed ({first_line(error).removesuffix(' in row 0')})"
            value = _shown(line)
            rejected.append(Rejected(fragment.table, fragment.path, row, "(line)", value, reason))
    return Batch(pa.concat_tables(tables), np.array(taken, np.int64), rejected)


def _json_fault(
    line: bytes, row: int, fragment: Fragment, schema: pa.Schema
) -> tuple[str, str, str]:
    """Column, value and reason of what is wrong with a line; all empty when nothing is."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return "(line)", _shown(line), f"not valid JSON ({error})"
    if not isinstance(values, dict):
        return "(line)", repr(values)[:80], "expected an object of columns"
    for name, value in values.items():
        if name not in schema.names:
            raise InputError(unknown_column(f"{fragment.path}: row {row}", name, schema.names))
        expected = schema.field(name).type
        if not (value is None or _holds(expected, value)):
            return name, repr(value)[:80], f"expected {expected}"
    return "", "", ""


def _shown(line: bytes) -> str:
    return repr(line[:80].decode(errors="replace"))


def _holds(expected: pa.DataType, value: object) -> bool:
    """Whether a value out of JSON is of the type, and within its range."""
    if pa.types.is_list(expected):
        return isinstance(value, list) and all(_holds(expected.value_type, v) for v in value)
    if pa.types.is_boolean(expected):
        return isinstance(value, bool)
    if pa.types.is_integer(expected):
        limit = 1 << (expected.bit_width - 1)
        return type(value) is int and -limit <= value < limit
    if pa.types.is_floating(expected):
        return type(value) in (int, float)
    return isinstance(value, str) and (pa.types.is_string(expected) or _is_day(value))


def _is_day(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text  # Arrow takes no other form
    except ValueError:
        return False
