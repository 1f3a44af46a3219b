import math

import pytest
import torch

from gpt2lab.generation.engine import complete, stream
from gpt2lab.generation.options import SamplingOptions

PROMPTS = ["the cat of the END", "", "x" * 20, "the cat of the END"]
WAYS = {
    "drawn": {"temperature": 0.7, "top_k": 30, "repetition_penalty": 1.3},
    "greedy": {"temperature": 0},
    "beams": {"num_beams": 3, "samples": 2},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "looked up": {"prompt_lookup": 4, "temperature": 0},
}


def naive_logprobs(model, tokenizer, tokens):
    """By the model alone, the whole text at once: (T - 1, V)."""
    with torch.no_grad():
        logits_TV = model(torch.tensor([tokens]))[0, :-1, : tokenizer.vocab_size]
    return logits_TV.log_softmax(dim=1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("echo", [False, True])
def test_logprobs_are_those_of_the_model_alone(monkeypatch, make_model, tokenizer, way, echo):
    monkeypatch.setattr("gpt2lab.generation.logprobs._POSITIONS_AT_ONCE", 7)
    model = make_model(vocab_size=tokenizer.vocab_size + 11).double()
    options = SamplingOptions(max_new_tokens=12, seed=1, logprobs=3, echo=echo).changed(WAYS[way])
    plain = SamplingOptions(max_new_tokens=12, seed=1).changed(WAYS[way])
    completions = complete(model, tokenizer, PROMPTS, options)
    unrated = complete(model, tokenizer, PROMPTS, plain)
    for i, (completion, other) in enumerate(zip(completions, unrated, strict=True)):
        prompt = PROMPTS[i // options.samples]
        prompt_tokens = tokenizer.encode(prompt) or [tokenizer.end_of_text]
        assert completion.text == (prompt if echo else "") + other.text
        assert completion.tokens == (prompt_tokens if echo else []) + other.tokens
        assert [one.token for one in completion.logprobs] == completion.tokens
        expected_TV = naive_logprobs(model, tokenizer, prompt_tokens + other.tokens)
        rated = completion.logprobs
        if echo:
            assert rated[0].logprob is None
            assert rated[0].top == ()
            rated = rated[1:]
        for one, expected_V in zip(rated, expected_TV[-len(rated) :], strict=True):
            assert one.logprob == pytest.approx(float(expected_V[one.token]), abs=1e-9)
            top_3, ids_3 = expected_V.topk(3)
            assert [token for token, _ in one.top] == ids_3.tolist()
            assert [logprob for _, logprob in one.top] == pytest.approx(top_3.tolist(), abs=1e-9)


def test_more_alternatives_than_tokens_are_all_tokens(model, tokenizer):
    options = SamplingOptions(max_new_tokens=1, logprobs=10**9)
    [one] = complete(model, tokenizer, ["a"], options)[0].logprobs
    assert sorted(token for token, _ in one.top) == list(range(tokenizer.vocab_size))
    assert sum(math.exp(logprob) for _, logprob in one.top) == pytest.approx(1)


def test_without_asking_there_are_none(model, tokenizer):
    completion = complete(model, tokenizer, ["a"], SamplingOptions(max_new_tokens=2))[0]
    assert completion.logprobs is None
    none_beside = complete(model, tokenizer, ["a"], SamplingOptions(max_new_tokens=2, logprobs=0))[0]
    assert [one.top for one in none_beside.logprobs] == [(), ()]


@pytest.mark.parametrize(
    "way", [{}, {"prompt_lookup": 3}, {"penalty_alpha": 0.5, "top_k": 3}, {"num_beams": 2}]
)
def test_a_text_that_may_not_begin_has_none(model, tokenizer, way):
    bias = dict.fromkeys(range(tokenizer.vocab_size), -torch.inf)
    options = SamplingOptions(5, logprobs=2, logit_bias=bias).changed(way)
    completion = complete(model, tokenizer, ["the"], options)[0]
    assert (completion.finish_reason, completion.tokens, completion.logprobs) == ("forbidden", [], ())


def test_the_echo_comes_with_the_first_piece(model, tokenizer):
    options = SamplingOptions(max_new_tokens=5, echo=True, seed=1)
    pieces = list(stream(model, tokenizer, ["the END"], options))
    assert pieces[0].text.startswith("the END")
    assert "".join(piece.text for piece in pieces) == pieces[-1].completion.text
