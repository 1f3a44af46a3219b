"""What any engine under the strategies must do, shown on the PyTorch one."""

import random

import pytest
import torch

from gpt2lab.generation.captured import CapturedBackend
from gpt2lab.generation.decoder import TorchBackend, backend_of

CONTEXT = 16


@pytest.fixture(params=[(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["float64", "float32"])
def precise(request, make_model):
    dtype, tolerance = request.param
    return make_model(context_length=CONTEXT).to(dtype), tolerance


def fresh_hidden(model, tokens):
    with torch.no_grad():
        return model.hidden(torch.tensor([tokens]))[0]


def repeated(step):
    """A `Capture` without a GPU: like a graph, it always reads and writes the same tensors."""
    result = step().clone()
    return lambda: result.copy_(step()), result


@pytest.mark.parametrize("engine", ["plain", "captured"])
def test_rows_are_fed_raggedly_taken_back_and_copied(precise, engine):
    """Random feeds of any lengths at any place, checked against a model without a cache after each."""
    model, tolerance = precise
    dice = random.Random(0)
    backend = TorchBackend(model) if engine == "plain" else CapturedBackend(model, repeated)
    decoder = backend.decoder(5, CONTEXT)
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


def test_a_step_is_captured_when_its_size_comes_again(make_model, monkeypatch):
    """And attention then reads whole stretches of 256 slots, so that one capture serves them all."""
    captures, replays = [], []

    def counted(step):
        captures.append(step)
        replay, result = repeated(step)
        return lambda: (replays.append(1), replay()), result

    model = make_model(context_length=600)
    decoder, plain = CapturedBackend(model, counted).decoder(2, 600), TorchBackend(model).decoder(2, 600)
    tokens = torch.randint(0, 200, (2, 600), generator=torch.Generator().manual_seed(0)).tolist()
    start = 250
    for fed in (decoder, plain):
        fed.feed(0, [row[:start] for row in tokens], [0, 0], [1, 1])
    for at in range(start, 265):
        new = [[row[at]] for row in tokens]
        got, wanted = (fed.feed(0, new, [at, at], [1, 1]) for fed in (decoder, plain))
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
    assert len(captures) == 2
    assert len(replays) == 15 - 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_a_cuda_graph_computes_what_plain_pytorch_does(make_model):
    model = make_model(context_length=64).to("cuda")
    decoder, plain = CapturedBackend(model).decoder(3, 64), TorchBackend(model).decoder(3, 64)
    for at in range(10):
        new = [[at], [at + 1], [at + 2]]
        got, wanted = (fed.feed(0, new, [at] * 3, [1] * 3) for fed in (decoder, plain))
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)
