"""The order in which windows are read: a seeded permutation of 0..n-1, computed where it is needed.

A shuffled list of 10^9 indices would have to be stored, sent to every process and rebuilt on resume. A
Feistel network gives any element of a pseudo-random permutation on its own, in constant memory. Indices
are laid out on a grid of `rows` x `columns` >= n cells; each half-round adds to one coordinate, modulo its
range, a keyed hash of the other, which can be undone and so is a bijection of the grid whatever the hash.
The grid exceeds n by less than one row; an index that lands outside [0, n) walks on through the same
bijection until it is back inside (cycle walking: Black and Rogaway, "Ciphers with Arbitrary Finite
Domains", 2002), which makes it a bijection of [0, n).

Only integer arithmetic modulo 2^64 is used, so the order is the same on every platform and with every
version of numpy. It is good shuffling, not cryptography.
"""

import math

import numpy as np
from numpy.typing import NDArray

_HALF_ROUNDS = 12  # six a coordinate: with eight, the 120 permutations of n=5 were measurably uneven
_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: splitmix64's step
_MULTIPLY_1, _MULTIPLY_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
_FACTORS = (np.uint64(_MULTIPLY_1), np.uint64(_MULTIPLY_2))

UInt64s = NDArray[np.uint64]


def permute(indices: NDArray[np.int64], n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Where the permutation of 0..n-1 chosen by (seed, epoch) sends each of `indices`.

    Args:
        indices: any shape, each in [0, n).
        n: how many elements are permuted, at least 1.
        seed: any integer; its lowest 64 bits count.
        epoch: which pass over the data, from 0; each has its own order.

    Returns:
        Values in [0, n), of the shape of `indices`. Over all of 0..n-1 each value appears once.
    """
    assert n >= 1
    assert indices.size == 0 or (indices.min() >= 0 and indices.max() < n)
    rows = math.isqrt(n - 1) + 1  # the ceiling of the square root
    columns = -(-n // rows)
    keys = _round_keys(seed, epoch)
    values = _scramble(indices.astype(np.uint64), rows, columns, keys)
    while (outside := values >= np.uint64(n)).any():
        values[outside] = _scramble(values[outside], rows, columns, keys)
    return values.astype(np.int64)


def _scramble(values: UInt64s, rows: int, columns: int, keys: list[np.uint64]) -> UInt64s:
    """One pass of the Feistel network over the grid: a bijection of [0, rows * columns)."""
    n_rows, n_columns = np.uint64(rows), np.uint64(columns)
    row, column = np.divmod(values, n_columns)
    for row_key, column_key in zip(keys[::2], keys[1::2], strict=True):
        row = (row + _mix(column + row_key) % n_rows) % n_rows
        column = (column + _mix(row + column_key) % n_columns) % n_columns
    return row * n_columns + column


def _mix(values: UInt64s) -> UInt64s:
    """The output function of splitmix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    values = (values ^ (values >> _SHIFTS[0])) * _FACTORS[0]
    values = (values ^ (values >> _SHIFTS[1])) * _FACTORS[1]
    return values ^ (values >> _SHIFTS[2])


def _round_keys(seed: int, epoch: int) -> list[np.uint64]:
    """One key a half-round: splitmix64 started from a hash of seed and epoch."""
    state = _mix_one(_mix_one(seed + _GOLDEN) + epoch)
    return [np.uint64(_mix_one(state + step * _GOLDEN)) for step in range(1, _HALF_ROUNDS + 1)]


def _mix_one(value: int) -> int:
    """`_mix` of one Python integer, taken modulo 2^64."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * _MULTIPLY_1) & _MASK
    value = ((value ^ (value >> 27)) * _MULTIPLY_2) & _MASK
    return value ^ (value >> 31)
