import random

import pytest
import torch

from gpt2lab.generation.batch import Batch, Row
from gpt2lab.generation.decoder import TorchBackend, evaluating
from gpt2lab.model.gpt import GPT


def fresh_logits(model: GPT, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([tokens]))[0, -1]


def assert_all_as_if_fresh(model, batch, tolerance):
    logits_BV = batch.next_logits()
    for row, logits_V in zip(batch.rows, logits_BV, strict=True):
        torch.testing.assert_close(logits_V, fresh_logits(model, row.window), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("architecture", ["gpt2", "gpt1"])
def test_rows_that_join_overflow_and_leave_score_as_a_fresh_model(make_model, architecture, dtype, tolerance):
    model = make_model(context_length=16, architecture=architecture).to(dtype)
    dice = random.Random(1)
    batch = Batch[Row](TorchBackend(model), n_rows=5, n_slots=16)
    n_restarts = 0
    for _ in range(120):
        while len(batch.rows) < 5 and dice.random() < 0.5:
            batch.join(Row([dice.randrange(200) for _ in range(dice.randint(1, 16))]))
        if not batch.rows:
            continue
        assert_all_as_if_fresh(model, batch, tolerance)
        for row in batch.rows:
            assert len(row.window) <= 16
            row.tokens.append(dice.randrange(200))
        for row in list(batch.rows):
            if dice.random() < 0.05:
                batch.leave(row)
                n_restarts += row.n_restarts
    assert n_restarts > 10


@pytest.mark.parametrize(("context_length", "kept"), [(16, 8), (7, 3), (2, 1), (1, 1)])
def test_a_full_row_keeps_the_last_half_of_the_context(make_model, context_length, kept):
    model = make_model(context_length=context_length).double()
    batch = Batch[Row](TorchBackend(model), n_rows=1, n_slots=context_length)
    row = Row(list(range(context_length)))
    batch.join(row)
    batch.next_logits()
    row.tokens.append(99)
    logits_V = batch.next_logits()[0]
    assert row.tokens == [*range(context_length), 99]
    assert row.window == row.tokens[-kept:]
    assert row.n_restarts == 1
    torch.testing.assert_close(logits_V, fresh_logits(model, row.window), rtol=0, atol=1e-12)


def test_many_long_rows_are_encoded_in_parts(monkeypatch, model):
    monkeypatch.setattr("gpt2lab.generation.batch._TOKENS_AT_ONCE", 100)
    sizes = []
    hidden = model.hidden

    def spy(tokens_BT, *rest):
        sizes.append(tokens_BT.numel())
        return hidden(tokens_BT, *rest)

    monkeypatch.setattr(model, "hidden", spy)
    batch = Batch[Row](TorchBackend(model), n_rows=7, n_slots=41)
    for n in (40, 3, 17, 39, 25, 1, 8):
        batch.join(Row(list(range(n))))
    batch.next_logits()
    assert sizes == [80, 78, 50, 8]
    for row in batch.rows:
        row.tokens.append(7)
    assert_all_as_if_fresh(model, batch, 1e-12)


def test_every_modules_mode_is_put_back():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout()))
    model.train()
    model[1].eval()
    before = [module.training for module in model.modules()]

    def interrupted():
        with evaluating(model.modules()):
            assert not any(module.training for module in model.modules())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [module.training for module in model.modules()] == before
