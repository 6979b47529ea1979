"""Values by key, those that were used last, as many as fit so many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lru(Generic[K, V]):
    """For one thread at a time: who shares it has a lock.

    Attributes:
        num_bytes: of all values.
        num_evicted: values that made room for others.
    """

    def __init__(self, max_bytes: int, size: Callable[[V], int]) -> None:
        """Begin with none.

        Args:
            max_bytes: of all values; who was longest not used goes first.
            size: of a value in bytes, which stays the same.
        """
        self._max_bytes, self._size = max_bytes, size
        self._values: OrderedDict[K, V] = OrderedDict()
        self.num_bytes = self.num_evicted = 0

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[K]:
        """Keys, that of the longest unused first."""
        return iter(self._values)

    def get(self, key: K) -> V | None:
        """The value, which is used thereby; None = it is not there."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def pop(self, key: K) -> V | None:
        """Take the value out; None = it is not there."""
        if key not in self._values:
            return None
        value = self._values.pop(key)
        self.num_bytes -= self._size(value)
        return value

    def put(self, key: K, value: V) -> list[K]:
        """Hold it instead of what is there, unless it is too large by itself; returns who went."""
        self.pop(key)
        if self._size(value) > self._max_bytes:
            return []
        self._values[key] = value
        self.num_bytes += self._size(value)
        gone = []
        while self.num_bytes > self._max_bytes:
            gone.append(next(iter(self._values)))
            self.pop(gone[-1])
        self.num_evicted += len(gone)
        return gone
