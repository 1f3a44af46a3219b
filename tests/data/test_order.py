"""The permutation of windows: a bijection, even, different for every seed and epoch, and never changing."""

import hashlib
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.data.order import permute

SEEDS = st.integers(-(2**63), 2**64)


def slow_permute(index: int, n: int, seed: int, epoch: int) -> int:
    """The same permutation in plain Python integers, one index at a time."""
    mask = 2**64 - 1

    def mix(x: int) -> int:
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) & mask
        return x ^ x >> 31

    golden = 0x9E3779B97F4A7C15
    state = mix((mix((seed + golden) & mask) + epoch) & mask)
    keys = [mix((state + step * golden) & mask) for step in range(1, 13)]
    rows = math.ceil(math.sqrt(n))
    columns = math.ceil(n / rows)
    while True:
        row, column = divmod(index, columns)
        for half in range(0, 12, 2):
            row = (row + mix((column + keys[half]) & mask)) % rows
            column = (column + mix((row + keys[half + 1]) & mask)) % columns
        index = row * columns + column
        if index < n:
            return index


@given(n=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 10**6))
def test_is_a_bijection(n: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(n), n, seed, epoch)), np.arange(n))


@given(n=st.integers(1, 10**9), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 100), data=st.data())
def test_equals_the_scalar_reference(n: int, seed: int, epoch: int, data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, n - 1), max_size=5))
    expected = [slow_permute(index, n, seed % 2**64, epoch) for index in indices]
    # Rows are the exact ceiling of the root in the code; floats agree with that at these sizes.
    assert permute(np.array(indices, dtype=np.int64), n, seed, epoch).tolist() == expected


@given(n=st.integers(2**40, 2**62), data=st.data())
def test_stays_inside_and_never_collides_where_n_is_huge(n: int, data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, n - 1), unique=True, min_size=1, max_size=50))
    values = permute(np.array(indices, dtype=np.int64), n, 1, 0)
    assert ((values >= 0) & (values < n)).all()
    assert len(set(values.tolist())) == len(indices)


@pytest.mark.parametrize(
    ("n", "seed", "epoch", "expected"),
    [
        (12, 0, 0, [2, 5, 1, 10, 7, 9, 8, 11, 6, 3, 0, 4]),
        (12, 0, 1, [2, 7, 1, 3, 8, 0, 11, 9, 10, 4, 5, 6]),
        (12, 1, 0, [4, 1, 3, 2, 11, 7, 9, 5, 6, 0, 10, 8]),
        (10**6, 0, 0, [891964, 152289, 25851, 237533, 6184, 898715, 805568, 266441]),
        (10**12 + 7, 1234, 5, [382810572904, 341974216906, 166985206812, 723491811741, 797897892502]),
    ],
)
def test_golden_orders(n: int, seed: int, epoch: int, expected: list[int]) -> None:
    """A change here changes the batches of every run and breaks every resume: it must never happen."""
    assert permute(np.arange(len(expected)), n, seed, epoch).tolist() == expected


def test_golden_order_of_a_hundred_thousand() -> None:
    values = permute(np.arange(100_000), 100_000, 2**63 + 11, 3).astype("<i8")
    assert hashlib.sha256(values.tobytes()).hexdigest() == GOLDEN_SHA256


GOLDEN_SHA256 = "31f286aa31139729abde3079ab36dfda7696f7628aff31f180880f39761513b9"


def chi_square_z(counts: np.ndarray, cells: int) -> float:
    """How many standard deviations the chi-square of `counts` lies above its expectation."""
    expected = counts.sum() / cells
    chi_square = float(((counts - expected) ** 2).sum() / expected)
    freedom = cells - 1
    return (chi_square - freedom) / math.sqrt(2 * freedom)


@pytest.mark.parametrize("n", [2, 3, 5, 7, 10, 16])
def test_every_position_goes_everywhere_equally_often(n: int) -> None:
    trials = 4000
    orders = np.stack([permute(np.arange(n), n, seed, 0) for seed in range(trials)])
    for position in range(n):
        assert chi_square_z(np.bincount(orders[:, position], minlength=n), n) < 5


@pytest.mark.parametrize("n", [5, 7, 10])
def test_pairs_of_neighbours_go_everywhere_equally_often(n: int) -> None:
    orders = np.stack([permute(np.arange(n), n, 0, epoch) for epoch in range(6000)])
    cells = np.bincount(orders[:, 0] * n + orders[:, 1], minlength=n * n)
    cells = np.delete(cells, np.arange(n) * (n + 1))  # the two never meet
    assert chi_square_z(cells, n * (n - 1)) < 5


def test_all_orders_of_four_are_equally_frequent() -> None:
    weights = 4 ** np.arange(4)
    codes = np.array([permute(np.arange(4), 4, seed, 0) @ weights for seed in range(6000)])
    counts = np.unique(codes, return_counts=True)[1]
    assert len(counts) == 24
    assert chi_square_z(counts, 24) < 5


def test_a_long_order_looks_shuffled() -> None:
    n = 200_000
    values = permute(np.arange(n), n, 42, 0)
    for lag in (1, 2, math.isqrt(n), math.isqrt(n) + 1):
        assert abs(np.corrcoef(values[lag:], values[:-lag])[0, 1]) < 0.012  # five standard deviations
    assert abs(np.corrcoef(np.arange(n), values)[0, 1]) < 0.012
    bins = np.bincount(values[:2000] * 50 // n, minlength=50)  # the first hundredth is spread over the whole
    assert chi_square_z(bins, 50) < 5
    assert (np.abs(np.diff(values)) == 1).sum() < 15  # two are expected


def test_seeds_and_epochs_give_unrelated_orders() -> None:
    n = 10_000
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (0, 2), (-1, 0)]
    orders = [permute(np.arange(n), n, seed, epoch) for seed, epoch in keys]
    for one, other in pairwise([*orders, orders[0]]):
        assert (one == other).sum() < 12  # one agreement is expected by chance
