"""What any engine under the strategies must do, shown on the PyTorch one."""

import random

import pytest
import torch

from gpt2lab.generation.decoder import TorchBackend, backend_of

CONTEXT = 16


@pytest.fixture(params=[(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["float64", "float32"])
def precise(request, make_model):
    dtype, tolerance = request.param
    return make_model(context_length=CONTEXT).to(dtype), tolerance


def fresh_hidden(model, tokens):
    with torch.no_grad():
        return model.hidden(torch.tensor([tokens]))[0]


def test_rows_are_fed_raggedly_taken_back_and_copied(precise):
    """Random feeds of any lengths at any place, checked against a model without a cache after each."""
    model, tolerance = precise
    dice = random.Random(0)
    decoder = TorchBackend(model).decoder(5, CONTEXT)
    rows = [[] for _ in range(5)]
    for _ in range(150):
        if dice.random() < 0.3:
            source, target = dice.sample(range(5), 2)
            same = next(
                (n for n, (a, b) in enumerate(zip(rows[source], rows[target], strict=False)) if a != b),
                min(len(rows[source]), len(rows[target])),
            )
            decoder.copy_row(source, target, dice.randint(0, same), len(rows[source]))
            rows[target] = list(rows[source])
        first = dice.randrange(5)
        fed = rows[first : dice.randint(first, 4) + 1]
        starts = [dice.randint(0, min(len(row), CONTEXT - 1)) for row in fed]  # behind it: taken back
        new = [
            [dice.randrange(200) for _ in range(dice.choice((1, 1, dice.randint(1, CONTEXT - start))))]
            for start in starts
        ]
        n_last = [dice.randint(1, len(tokens)) for tokens in new]
        hidden_NC = decoder.feed(first, new, starts, n_last)
        expected = []
        for row, start, tokens, n in zip(fed, starts, new, n_last, strict=True):
            row[start:] = tokens
            expected.append(fresh_hidden(model, row)[-n:])
        torch.testing.assert_close(hidden_NC, torch.cat(expected), rtol=0, atol=tolerance)
        logits_NV = decoder.logits(hidden_NC)
        with torch.no_grad():
            expected_NV = model.lm_head(hidden_NC.clone())
        torch.testing.assert_close(logits_NV, expected_NV, rtol=0, atol=tolerance)


def test_a_cache_takes_what_was_said(model):
    backend = backend_of(model)
    decoder = backend.decoder(3, 10)
    cache = decoder._cache
    n_bytes = sum(cached.numel() * cached.element_size() for cached in (cache.keys_LBHSD, cache.values_LBHSD))
    assert n_bytes == 3 * backend.row_bytes(10)


def test_an_engine_is_taken_as_it_is(model):
    backend = TorchBackend(model)
    assert backend_of(backend) is backend
