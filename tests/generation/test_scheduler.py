"""Requests of every kind that join and leave a running batch, and the memory they take."""

import random

import pytest
import torch

from gpt2lab.base.errors import UserError
from gpt2lab.generation.capacity import Capacity
from gpt2lab.generation.decoder import TorchBackend
from gpt2lab.generation.engine import complete, generate, stream
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.generation.request import requests_for
from gpt2lab.generation.scheduler import Scheduler
from gpt2lab.model.gpt import KVCache

KINDS = [
    {"temperature": 0},
    {"temperature": 0.9, "top_k": 50},
    {"temperature": 0, "repetition_penalty": 1.2, "logprobs": 2, "echo": True},
    {"num_beams": 3, "samples": 2, "no_repeat_ngram_size": 2},
    {"num_beams": 2, "early_stopping": True, "stop": ("e",)},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"prompt_lookup": 4, "temperature": 0.5},
    {"temperature": 0, "stop": ("th", "\n")},
]
PROMPTS = ["the cat", "", "€uro and", "stop sig", "the cat", "x" * 14, "\n\n", "a"]


def same(one, other):
    """Equal but for the last bits of numbers."""
    if one.logprobs is not None:
        own, others = ([rated.logprob or 0 for rated in each.logprobs] for each in (one, other))
        assert own == pytest.approx(others, abs=1e-9)
    if one.score is not None:
        assert one.score == pytest.approx(other.score, abs=1e-9)
    return (one.text, one.tokens, one.finish_reason, one.n_restarts) == (
        other.text,
        other.tokens,
        other.finish_reason,
        other.n_restarts,
    )


@pytest.mark.parametrize("n_rows", [4, 7, 30])
@pytest.mark.parametrize("seed", range(3))
def test_requests_that_join_late_get_what_they_get_alone(short_model, tokenizer, n_rows, seed):
    """Kinds, prompts, lengths and times of arrival at random; some are cancelled on the way."""
    dice = random.Random(seed)
    backend = TorchBackend(short_model)
    scheduler = Scheduler(backend, Capacity(n_rows, 16, 0, 0), tokenizer.vocab_size)
    expected, done, cancelled, arriving = {}, {}, {}, []
    for number in range(40):
        changes = dice.choice(KINDS) | {"max_new_tokens": dice.randint(1, 30), "seed": number}
        options = SamplingOptions().changed(changes)
        prompt = dice.choice(PROMPTS)
        expected[number] = complete(short_model, tokenizer, [prompt], options)
        [request] = requests_for(backend.config, tokenizer, [prompt], options)
        request.index = 10 * number
        arriving.append(request)
    while arriving or scheduler.busy:
        while arriving and dice.random() < 0.4:
            scheduler.submit(arriving.pop())
        for piece in scheduler.step():
            assert piece.index // 10 not in cancelled
            if piece.completion is not None:
                done[piece.index] = piece.completion
        if dice.random() < 0.05 and scheduler._running:
            request = dice.choice(scheduler._running).request
            scheduler.cancel(request)
            cancelled[request.index // 10] = request
    assert len(cancelled) < 25
    for number, completions in expected.items():
        for sample, completion in enumerate(completions):
            found = done.get(10 * number + sample)
            assert (found is None) == (number in cancelled)
            assert found is None or same(found, completion)


def test_equal_prompts_of_every_kind_are_encoded_together(model, tokenizer, monkeypatch):
    """Some of them ask for the hidden states of the whole prompt, some for its last scores only."""
    backend = TorchBackend(model)
    scheduler = Scheduler(backend, Capacity(20, 64, 0, 0), tokenizer.vocab_size)
    sizes, done, expected = [], {}, {}
    for number, kind in enumerate(KINDS):
        options = SamplingOptions(max_new_tokens=6, seed=number).changed(kind)
        expected[10 * number] = complete(model, tokenizer, ["the cat"], options)[0]
        [request] = requests_for(backend.config, tokenizer, ["the cat"], options)
        request.index = 10 * number
        scheduler.submit(request)
    hidden = model.hidden
    monkeypatch.setattr(
        model, "hidden", lambda tokens_BT, *rest: sizes.append(tokens_BT.shape) or hidden(tokens_BT, *rest)
    )
    while scheduler.busy:
        done |= {piece.index: piece.completion for piece in scheduler.step() if piece.completion}
    assert sizes[0] == (1, len(tokenizer.encode("the cat")))
    assert all(same(done[index], completion) for index, completion in expected.items())


def test_a_waiting_request_can_be_cancelled(model, tokenizer):
    backend = TorchBackend(model)
    scheduler = Scheduler(backend, Capacity(1, 64, 0, 0), tokenizer.vocab_size)
    first, second = requests_for(backend.config, tokenizer, ["a", "b"], SamplingOptions(3, temperature=0))
    scheduler.submit(first)
    scheduler.submit(second)
    scheduler.cancel(second)
    pieces = []
    while scheduler.busy:
        pieces += scheduler.step()
    assert {piece.index for piece in pieces} == {0}
    assert scheduler.step() == []


def test_samples_of_a_prompt_are_encoded_once(model, tokenizer, monkeypatch):
    sizes = []
    hidden = model.hidden

    def spy(tokens_BT, *rest):
        sizes.append(tuple(tokens_BT.shape))
        return hidden(tokens_BT, *rest)

    monkeypatch.setattr(model, "hidden", spy)
    options = SamplingOptions(3, samples=5, seed=7)
    several = complete(model, tokenizer, ["x" * 20, "y" * 6], options)
    assert sizes == [(2, 20), (10, 1), (10, 1)]
    for i, completion in enumerate(several):
        alone = complete(model, tokenizer, [("x" * 20, "y" * 6)[i // 5]], SamplingOptions(3, seed=7 + i))
        assert alone[0].tokens == completion.tokens
        assert completion.seed == 7 + i
    assert len({tuple(completion.tokens) for completion in several}) > 5


@pytest.fixture
def allocated(monkeypatch):
    """The bytes of every cache made."""
    sizes = []
    allocate = KVCache.allocate

    def spy(*given, **where):
        cache = allocate(*given, **where)
        sizes.append(sum(one.numel() * one.element_size() for one in (cache.keys_LBHSD, cache.values_LBHSD)))
        return cache

    monkeypatch.setattr(KVCache, "allocate", spy)
    return sizes


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(kind))
def test_memory_is_known_before_and_never_more_than_the_limit(model, tokenizer, allocated, kind):
    options = SamplingOptions(max_new_tokens=9, seed=1).changed(kind)
    unlimited = complete(model, tokenizer, PROMPTS, options)
    slots = max(len(tokenizer.encode(prompt)) for prompt in PROMPTS) + 9 - 1 + ("penalty_alpha" in kind)
    row_bytes = TorchBackend(model).row_bytes(slots)
    n_rows = max(kind.get("num_beams", 1), kind.get("top_k", 1) if "penalty_alpha" in kind else 1)
    assert allocated == [len(PROMPTS) * n_rows * row_bytes]
    for limit in (n_rows * row_bytes, 5 * row_bytes + 17):
        allocated.clear()
        limited = complete(model, tokenizer, PROMPTS, options, max_cache_bytes=limit)
        assert allocated[0] <= limit
        assert all(same(one, other) for one, other in zip(limited, unlimited, strict=True))
    with pytest.raises(UserError, match=r"cache: .* MiB, the limit is"):
        generate(model, tokenizer, "x" * 14, options, max_cache_bytes=n_rows * row_bytes - 1)


def test_a_drafts_cache_counts(make_model, model, tokenizer, allocated):
    draft = make_model(n_layer=1, context_length=8).double()
    options = SamplingOptions(20, temperature=0)
    row_bytes = TorchBackend(model).row_bytes(29)
    draft_bytes = TorchBackend(draft).row_bytes(8)
    complete(
        model, tokenizer, ["x" * 10] * 3, options, draft=draft, max_cache_bytes=2 * (row_bytes + draft_bytes)
    )
    assert allocated == [2 * row_bytes, 2 * draft_bytes]


def test_a_limit_on_rows_gives_way_to_what_a_single_request_needs(model, tokenizer):
    options = SamplingOptions(4, num_beams=5)
    few = [
        piece.completion
        for piece in stream(model, tokenizer, ["a", "the"], options, max_rows=2)
        if piece.completion
    ]
    assert sorted(one.tokens for one in few) == sorted(
        one.tokens for one in complete(model, tokenizer, ["a", "the"], options)
    )


@pytest.mark.parametrize("kind", [0, 1, 3, 5, 6])
def test_float32_gives_the_same_batched_and_alone(make_model, tokenizer, kind):
    model = make_model()
    assert model.wte.weight.dtype == torch.float32
    options = SamplingOptions(max_new_tokens=25, seed=3).changed(KINDS[kind])
    together = complete(model, tokenizer, PROMPTS, options)
    for i, prompt in enumerate(PROMPTS):
        own = options.changed({"seed": 3 + i * options.samples})
        alone = complete(model, tokenizer, [prompt], own)
        expected = together[i * options.samples : (i + 1) * options.samples]
        assert [one.tokens for one in alone] == [one.tokens for one in expected]
