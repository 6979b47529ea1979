"""What a reader promises: fragments that can be streamed, and batches in contract columns.

A reader is one file in `readers/`; its file name is its name in the settings. It says
which files it needs, in which order, and turns what they hold into columns of
`pipelines.schema`. It judges no value: that is the work of `check`.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from configs import Config, ConfigError, check, near_miss
from pipelines.data import readers
from pipelines.schema import ACTIONS, Action

# A uint64 column that a reader may add to events: hash of what the contract has no column for.
# Rows that differ in it are not duplicates.
UNMAPPED = "unmapped"


class InputError(ValueError):
    """Input that cannot be used; the text names file, row and column and what is allowed."""


class MissingInputError(InputError):
    """A file that is not there; the text says what to fetch and where to put it."""


@dataclass(frozen=True)
class Rejected:
    """One row that was refused. Rows count from 1, a header line not counted."""

    table: str
    file: str
    row: int
    column: str
    value: str
    reason: str

    def __str__(self) -> str:
        place = f"{self.file}: row {self.row}"
        return f"{place}, column {self.column}: {self.value}: {self.reason}"


@dataclass(frozen=True)
class Fragment:
    """A piece of one file that is read by itself.

    Attributes:
        table: the table of `pipelines.schema` it belongs to.
        path: file, or any fsspec URL.
        num_rows: exact for Parquet, an estimate for text.
        row_group: of a Parquet file; None = the whole file.
        first_row: rows of the file before this piece.
    """

    table: str
    path: str
    num_rows: int
    row_group: int | None = None
    first_row: int = 0


@dataclass(frozen=True)
class Batch:
    """Rows of one fragment in contract columns, values not yet checked.

    Attributes:
        table: columns of the contract, observed ones only, perhaps UNMAPPED.
        row: row of the file each came from. int64 [n].
        rejected: rows that could not even be parsed; not among `table`.
    """

    table: pa.Table
    row: NDArray[np.int64]
    rejected: list[Rejected] = field(default_factory=list)


class Reader(Config, ABC):
    """Settings of one reader, and what it can do with them."""

    # Action of the schema -> what this data set calls it.
    action_names: ClassVar[dict[str, str]] = {}

    @property
    def actions(self) -> tuple[Action, ...]:
        """Actions of the log, in mask order."""
        return ACTIONS

    @abstractmethod
    def fragments(self) -> list[Fragment]:
        """All that will be read, in a fixed order; looks at names and headers only.

        Raises:
            MissingInputError: a file is not there.
            InputError: a file cannot be read, or its columns are not as declared.
        """

    @abstractmethod
    def read(self, fragment: Fragment) -> Iterator[Batch]:
        """Stream one fragment in file order; holds one batch at a time.

        Raises:
            InputError: a file cannot be read, or a row has a column of an unknown name.
        """


def reader_names() -> list[str]:
    """Readers that there are: the files of `readers/`."""
    return sorted(module.name for module in pkgutil.iter_modules(readers.__path__))


def make_reader(settings: dict[str, Any], place: str = "reader") -> Reader:
    """The reader that `settings["name"]` names, with the other settings applied.

    Raises:
        ConfigError: no such reader (the near miss is named), or wrong settings.
    """
    values = dict(settings)
    name, names = str(values.pop("name", None)), reader_names()
    if name not in names:
        raise ConfigError(f"{place}.name: no reader {name!r}{near_miss(name, names)}")
    module = importlib.import_module(f"{readers.__name__}.{name}")
    return check(values, getattr(module, name.capitalize()), place)
