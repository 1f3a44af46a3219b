"""Growing batches: what a step reads is known without the steps before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.data.batch_sizes import BatchSizes
from gpt2lab.data.loader import BatchLoader


def test_without_growth_every_batch_is_full() -> None:
    sizes = BatchSizes(12)
    assert [sizes.span(step) for step in (0, 1, 7)] == [(0, 12), (12, 12), (84, 12)]


def test_stages_are_multiples_of_the_first_size_and_equally_long_in_windows() -> None:
    sizes = BatchSizes(full=16, first=4, growth=3 * 48)
    found = [sizes.span(step)[1] for step in range(24)]
    assert found == [4] * 12 + [8] * 6 + [12] * 4 + [16] * 2


@given(
    first=st.integers(1, 8),
    stages=st.integers(1, 9),
    growth=st.integers(0, 2000),
    steps=st.integers(1, 300),
)
def test_steps_follow_upon_each_other_and_grow(first: int, stages: int, growth: int, steps: int) -> None:
    sizes = BatchSizes(first * stages, first, growth)
    spans = [sizes.span(step) for step in range(steps)]
    read = 0
    for before, size in spans:
        assert before == read
        assert size % first == 0
        read += size
    assert [size for _, size in spans] == sorted(size for _, size in spans)
    assert sizes.span(10**6)[1] == first * stages


@given(growth=st.integers(1000, 20_000))
def test_the_batch_is_full_after_about_the_windows_asked_for(growth: int) -> None:
    sizes = BatchSizes(32, 4, growth)
    full_at = next(step for step in range(10**5) if sizes.span(step)[1] == 32)
    assert sizes.span(full_at)[0] == pytest.approx(growth, rel=0.1)
    # Over the tokens read the batch lies on a straight line, within one stage.
    for step in range(full_at):
        before, size = sizes.span(step)
        assert abs(size - (4 + 28 * before / growth)) <= 4 * 1.2


def test_growing_batches_read_the_same_order_as_full_ones(numbered) -> None:  # type: ignore[no-untyped-def]
    dataset = numbered([500])
    grown = BatchLoader(dataset, 5, 8, 3, BatchSizes(8, 2, 24))
    full = BatchLoader(dataset, 5, 8, 3)
    read = [index for step in range(12) for index in grown.window_indices(step)]
    expected = [index for step in range(12) for index in full.window_indices(step)]
    assert read == expected[: len(read)]
    shares = [
        [len(rows) for rank in range(3) for rows, _ in grown.micro_batches(step, 2, rank, 3)]
        for step in range(6)
    ]
    assert [sum(share) for share in shares] == [grown.sizes.span(step)[1] for step in range(6)]
