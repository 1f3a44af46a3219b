"""Evaluation windows: every token but the first is predicted exactly once, in batches of one shape."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.data.dataset import TokenDataset
from gpt2lab.data.evaluation_windows import NO_TARGET, overlapping_windows, sequential_windows

MakeDataset = Callable[..., TokenDataset]


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4).filter(lambda lengths: sum(lengths) > 1),
    context_length=st.integers(1, 12),
    batch_windows=st.integers(1, 5),
    max_tokens=st.none() | st.integers(1, 100),
)
def test_predicts_every_token_but_the_first_once(
    lengths: list[int], context_length: int, batch_windows: int, max_tokens: int | None, numbered: MakeDataset
) -> None:
    dataset = numbered(lengths, split="val")
    predicted = []
    for inputs_BT, targets_BT in sequential_windows(dataset, context_length, batch_windows, max_tokens):
        assert inputs_BT.shape == targets_BT.shape == (batch_windows, context_length)
        real = targets_BT != NO_TARGET
        assert real.any()
        assert torch.equal(inputs_BT[real] + 1, targets_BT[real])  # token i is i
        assert not inputs_BT[~real].any()
        predicted += targets_BT[real].tolist()
    assert predicted == list(range(1, sum(lengths)))[:max_tokens]


def test_padding_is_what_cross_entropy_ignores(numbered: MakeDataset) -> None:
    ((_, targets_BT),) = sequential_windows(numbered([6]), 4, 2)
    logits = torch.randn(8, 10, dtype=torch.float64)
    total = torch.nn.functional.cross_entropy(logits, targets_BT.view(-1), reduction="sum")
    by_hand = -sum(logits.log_softmax(-1)[i, i + 1] for i in range(5))
    assert torch.allclose(total, torch.as_tensor(by_hand))


def test_nothing_to_predict(numbered: MakeDataset) -> None:
    with pytest.raises(UserError, match="only one token"):
        next(sequential_windows(numbered([1], split="val"), 4, 2))


def test_a_foreign_token_never_reaches_the_model(numbered: MakeDataset) -> None:
    with pytest.raises(UserError, match=r"train_000001\.bin: .*holds token 11"):
        list(sequential_windows(numbered([6, 6], vocab_size=10), 4, 2))


@given(
    n_tokens=st.integers(2, 90),
    context_length=st.integers(1, 12),
    stride=st.integers(1, 12),
    rows=st.integers(1, 4),
)
def test_overlapping_windows_predict_every_token_once_with_enough_context(
    numbered: Callable[..., TokenDataset], n_tokens: int, context_length: int, stride: int, rows: int
) -> None:
    stride = min(stride, context_length)
    predicted = []
    for inputs_BT, targets_BT in overlapping_windows(numbered([n_tokens]), context_length, rows, stride):
        for inputs_T, targets_T in zip(inputs_BT.tolist(), targets_BT.tolist(), strict=True):
            for place, target in enumerate(targets_T):
                if target != NO_TARGET:
                    assert inputs_T[place] == target - 1
                    assert place >= min(target - 1, context_length - stride)
                    predicted.append(target)
    assert predicted == list(range(1, n_tokens))
