"""Bloom filters of posts that a client has shown: thousands of ids in a few hundred bytes.

Bit positions are a contract with clients in any language. For an id, all arithmetic modulo 2^64:

    mix(z)      z ^= z >> 30;  z *= 0xbf58476d1ce4e5b9;  z ^= z >> 27;
                z *= 0x94d049bb133111eb;  z ^= z >> 31        (the finalizer of SplitMix64)
    G           0x9e3779b97f4a7c15
    h1          mix(id + mix(seed + G))
    h2          mix(h1 + G) | 1
    position i  ((h1 + i * h2) mod 2^64) mod num_bits,   i = 0 to num_hashes - 1

and bit b is `bits[b // 8] >> (b % 8) & 1`. A filter holds every id that was put in, and another
id with a chance of about (1 - exp(-num_hashes * n / num_bits)) ^ num_hashes after n of them.
Double hashing: Kirsch and Mitzenmacher, Less Hashing, Same Performance, 2006.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_BITS = 2**23  # a MiB: half a million posts at one in a thousand
MAX_HASHES = 32
_G = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class BloomFilter:
    """A set of posts that may hold one too many, never one too few.

    Attributes:
        bits: (num_bits + 7) // 8 bytes, bit 0 the lowest of the first.
        num_bits: 1 to MAX_BITS.
        num_hashes: positions of an id, 1 to MAX_HASHES.
        seed: 0 to 2^64 - 1; another one for each filter of a client, so that an id that one of
            them wrongly holds is not held by the next for the same reason.
    """

    bits: bytes
    num_bits: int
    num_hashes: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("num_bits", 1, MAX_BITS),
            ("num_hashes", 1, MAX_HASHES),
            ("seed", 0, 2**64 - 1),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: {getattr(self, name)}, expected {least} to {most}")
        expected = _num_bytes(self.num_bits)
        if len(self.bits) != expected:
            raise ValueError(
                f"bits: {len(self.bits)} bytes, expected {expected} for num_bits {self.num_bits}"
            )

    @classmethod
    def of(
        cls, post_id: ArrayLike, false_positive_rate: float = 0.01, seed: int = 0
    ) -> BloomFilter:
        """The smallest filter that holds `post_id` [n] and wrongly no more than that rate.

        Raises:
            ValueError: a rate that is not between 0 and 1, or more posts than MAX_BITS allow.
        """
        ids = np.unique(np.asarray(post_id, np.int64))
        if not 0 < false_positive_rate < 1:
            raise ValueError(
                f"false_positive_rate: {false_positive_rate}, expected between 0 and 1"
            )
        num = max(1, len(ids))
        num_bits = math.ceil(-num * math.log(false_positive_rate) / math.log(2) ** 2)
        num_hashes = min(MAX_HASHES, max(1, round(num_bits / num * math.log(2))))
        empty = cls(bytes(_num_bytes(num_bits)), num_bits, num_hashes, seed)
        flags = np.zeros(8 * len(empty.bits), np.bool_)
        flags[empty.positions(ids)] = True
        return cls(np.packbits(flags, bitorder="little").tobytes(), num_bits, num_hashes, seed)

    def positions(self, post_id: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bits that each post sets. int64 [n, num_hashes]."""
        seed = _mix(np.array([self.seed], np.uint64) + _G)
        first = _mix(post_id.astype(np.uint64) + seed)
        step = _mix(first + _G) | np.uint64(1)
        nth = np.arange(self.num_hashes, dtype=np.uint64)
        hashes = first[:, None] + nth * step[:, None]
        return (hashes % np.uint64(self.num_bits)).astype(np.int64)

    def may_hold(self, post_id: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each post was put in; sometimes true of one that was not. bool [n]."""
        at = self.positions(post_id)
        octets = np.frombuffer(self.bits, np.uint8)[at >> 3]
        return (octets >> (at & 7).astype(np.uint8) & 1).all(axis=1)


def any_may_hold(filters: Sequence[BloomFilter], post_id: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether any of `filters` may hold each post, 0 = no post. bool [n]."""
    held = np.zeros(len(post_id), np.bool_)
    rows = np.flatnonzero(post_id > 0)  # most posts repeat and answer none
    for one in filters if len(rows) else ():
        held[rows] |= one.may_hold(post_id[rows])
    return held


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit of the result depends on every bit of `z`."""
    z = (z ^ (z >> np.uint64(30))) * _M1
    z = (z ^ (z >> np.uint64(27))) * _M2
    return z ^ (z >> np.uint64(31))


def _num_bytes(num_bits: int) -> int:
    return (num_bits + 7) // 8
