"""The split by document: fair, monotone, and the same for ever."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.data.split import split_of

KEYS = st.text()


def test_golden_sides() -> None:
    """A change here moves documents between training and held-out text: it must never happen."""
    sides = "".join(split_of(f"document {i}", 0.25)[0] for i in range(40))
    assert sides == GOLDEN


GOLDEN = "ttttttvtvttvtttttvtvtttttttttttttttttvvt"


@given(key=KEYS)
def test_the_ends_of_the_range(key: str) -> None:
    assert split_of(key, 0.0) == "train"
    assert split_of(key, 1.0) == "val"


@given(key=KEYS, one=st.floats(0, 1), other=st.floats(0, 1))
def test_a_larger_fraction_never_moves_a_document_back_to_training(
    key: str, one: float, other: float
) -> None:
    if split_of(key, min(one, other)) == "val":
        assert split_of(key, max(one, other)) == "val"


def test_a_file_name_that_is_not_utf8_has_a_side() -> None:
    assert split_of(os.fsdecode(b"caf\xe9.txt"), 0.5) in ("train", "val")


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5])
def test_holds_out_the_asked_share(fraction: float) -> None:
    n = 20_000
    held_out = sum(split_of(f"https://example.org/page/{i}", fraction) == "val" for i in range(n))
    assert abs(held_out - n * fraction) < 5 * (n * fraction * (1 - fraction)) ** 0.5


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_not_a_fraction(fraction: float) -> None:
    with pytest.raises(UserError, match="is not a fraction"):
        split_of("a", fraction)
