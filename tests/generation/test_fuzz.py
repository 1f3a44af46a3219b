"""Any options at all: they work and keep their word, or one message names the option."""

import random

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.generation.engine import complete, generate
from gpt2lab.generation.options import MAX_SEED, SamplingOptions

GOOD = {
    "max_new_tokens": [1, 2, 7, 25],
    "min_new_tokens": [0, 1, 5],
    "stop": [(), "e", ["th", "\n"], ("END",), ["é", "\ufffd"]],
    "stop_tokens": [(), [97], (101, 110, 299)],
    "forced_start": ["", "the", "€"],
    "forced_end": [False, True],
    "temperature": [0, 1, 0.7, 1e-6, 50, 1e300],
    "top_k": [0, 1, 2, 5, 400],
    "top_p": [1.0, 0.9, 0.1, 1e-9],
    "min_p": [0.0, 0.1, 1.0],
    "typical_p": [1.0, 0.9, 0.01],
    "seed": [None, 0, 5, MAX_SEED],
    "samples": [1, 2, 5],
    "repetition_penalty": [1, 1.3, 0.01, 100],
    "presence_penalty": [0, 0.5, -1000, 1000],
    "frequency_penalty": [0, 0.5, -2.0, 1000],
    "no_repeat_ngram_size": [0, 1, 2, 50],
    "bad_words": [(), "the", ["e", " stop", "€"]],
    "logit_bias": [{}, {97: 5.0}, {5: float("-inf"), 299: -1000}, dict.fromkeys(range(300), float("-inf"))],
    "num_beams": [1, 2, 4],
    "length_penalty": [1.0, 0, -2.5, 10],
    "early_stopping": [False, True, "never"],
    "penalty_alpha": [0, 0.6, 1.0],
    "prompt_lookup": [0, 1, 4, 100],
    "draft_tokens": [4, 1, 30],
    "logprobs": [None, 0, 2, 1000],
    "echo": [False, True],
}
BAD = {
    "max_new_tokens": [0, -1, 2.5, "7", None, True],
    "min_new_tokens": [-1, 0.5, None, 10**9],
    "stop": ["", [""], 5, ["a", None], {"a"}],
    "stop_tokens": [[-1], 5, ["a"], [1.5], [300], [10**12]],
    "forced_start": [None, 5, b"a", "x" * 200],
    "forced_end": [1, "yes", None],
    "temperature": [-1, float("nan"), float("inf"), 1e-9, "x", None],
    "top_k": [-1, 1.5, None, "4"],
    "top_p": [0, -0.1, 1.1, float("nan"), None],
    "min_p": [-0.1, 1.1, float("inf"), "x"],
    "typical_p": [0, 2, None],
    "seed": [-1, MAX_SEED + 1, 0.5, "x"],
    "samples": [0, -2, 1.5, 10**9],
    "repetition_penalty": [0, -1, 1e9, float("nan"), None],
    "presence_penalty": [float("inf"), 1e6, "x", None],
    "frequency_penalty": [float("nan"), -1e6, []],
    "no_repeat_ngram_size": [-1, 2.0, None],
    "bad_words": ["", ["a", ""], 3, [b"a"]],
    "logit_bias": [[], {"a": 1.0}, {-1: 0.0}, {1: float("nan")}, {1: float("inf")}, {300: 1.0}, {1.5: 2.0}],
    "num_beams": [0, -1, 1.5, 10**6, None],
    "length_penalty": [float("nan"), 1e3, "x"],
    "early_stopping": ["always", None, 2],
    "penalty_alpha": [-0.1, 1.5, None],
    "prompt_lookup": [-1, 0.5, None],
    "draft_tokens": [0, -1, None],
    "logprobs": [-1, 1.5, "x", True],
    "echo": [None, 1, "no"],
}
PROMPTS = ["the", "", "€uro and the end of it", "stop sign", "x" * 16, "\n\n", "😀 the é", "\ud800"]


def random_options(dice):
    """A few options, and which of them are impossible whatever the others are."""
    names = dice.sample(sorted(GOOD), dice.choice((1, 2, 3, 4, 6, 10)))
    bad = set(dice.sample(names, 1)) if dice.random() < 0.4 else set()
    return {name: dice.choice((BAD if name in bad else GOOD)[name]) for name in names}, bad


def check_promises(options, prompts, completions, tokenizer):
    assert len(completions) == len(prompts) * options.samples
    for index, completion in enumerate(completions):
        prompt = prompts[index // options.samples]
        drawn, text = completion.tokens, completion.text
        if options.echo:
            assert text.startswith(prompt)
            n_prompt = len(tokenizer.encode(prompt)) or 1
            drawn, text = drawn[n_prompt:], text.removeprefix(prompt)
        assert len(drawn) <= options.max_new_tokens
        assert (completion.finish_reason == "length") <= (len(drawn) == options.max_new_tokens)
        assert not any(stop in text for stop in options.stop)
        assert all(0 <= token < tokenizer.vocab_size for token in drawn)
        assert (completion.logprobs is None) == (options.logprobs is None)
        if completion.logprobs is not None:
            assert [one.token for one in completion.logprobs] == completion.tokens
        ended = completion.finish_reason == "end_of_text" or (
            completion.finish_reason == "stop" and drawn[-1] in options.stop_tokens
        )
        if ended and not options.forced_end and not options.forced_start:
            assert len(drawn) > options.min_new_tokens
        if options.forced_end and len(drawn) == options.max_new_tokens:
            assert drawn[-1] == tokenizer.end_of_text
        if completion.finish_reason == "end_of_text":
            assert drawn[-1] == tokenizer.end_of_text
        forbidden = {token for token, bias in options.logit_bias.items() if bias == float("-inf")}
        if not options.forced_start and not options.forced_end:
            assert not forbidden & set(drawn)
        n = options.no_repeat_ngram_size
        if n and not options.forced_start and not options.forced_end:
            whole = (tokenizer.encode(prompt) or [tokenizer.end_of_text]) + drawn
            n_prompt = len(whole) - len(drawn)
            grams = [tuple(whole[i : i + n]) for i in range(len(whole) - n + 1)]
            new = grams[max(0, n_prompt - n + 1) :]
            assert not any(gram in grams[: len(grams) - len(new) + i] for i, gram in enumerate(new))


def check_message(message, changes, bad):
    assert len(str(message).splitlines()) == 1
    if bad and bad <= {"min_new_tokens", "stop_tokens", "logit_bias", "forced_start"}:
        assert message.where in {*changes, "draft"}  # looked at late: something else may be wrong, too
    elif bad:
        assert {message.where} == bad
    else:
        assert message.where in {*changes, "draft", "prompt", "prompt 1", "prompt 2", "prompt 3"}


def fuzz(make_model, tokenizer, n, seed):
    dice = random.Random(seed)
    models = [make_model(context_length=16, n_layer=1).double(), make_model(context_length=16, n_layer=1)]
    drafts = [make_model(context_length=c, n_layer=1, n_embd=16).double() for c in (5, 64)]
    outcomes = {"worked": 0, "impossible": 0, "together": 0}
    for _ in range(n):
        changes, bad = random_options(dice)
        prompts = dice.sample(PROMPTS, dice.randint(0, 3))
        model, draft = dice.choice(models), dice.choice([*drafts, None, None, None, None])
        message = None
        try:
            options = SamplingOptions(9).changed(changes)
            completions = complete(model, tokenizer, prompts, options, draft=draft)
        except UserError as error:
            message = error
        if message is not None:
            check_message(message, changes, bad)
            outcomes["impossible" if bad else "together"] += 1
            continue
        assert not bad, changes
        check_promises(options, prompts, completions, tokenizer)
        outcomes["worked"] += 1
    assert min(outcomes.values()) > n // 20, outcomes


def test_any_options_work_or_say_what_is_wrong(make_model, tokenizer):
    fuzz(make_model, tokenizer, 200, seed=1)


@pytest.mark.slow
def test_six_thousand_combinations(make_model, tokenizer):
    fuzz(make_model, tokenizer, 6000, seed=2)


@pytest.mark.parametrize("name", GOOD)
def test_every_value_alone(make_model, tokenizer, name):
    model = make_model(context_length=16, n_layer=1)
    for value in GOOD[name]:
        needed = {"early_stopping": "num_beams", "length_penalty": "num_beams", "penalty_alpha": "top_k"}
        others = {"max_new_tokens": 6, needed.get(name, "seed"): 3}
        if needed.get(name) == "top_k" and not value:
            others.pop("top_k")
        assert isinstance(generate(model, tokenizer, ["the"], **(others | {name: value})), list)
    for value in BAD[name]:
        with pytest.raises(UserError) as caught:
            generate(model, tokenizer, ["the"], **({"max_new_tokens": 6} | {name: value}))
        assert caught.value.where == name, value


def test_options_misspelt_are_named(model, tokenizer):
    with pytest.raises(UserError, match=r"top_q: there is no such option. Did you mean top_p\."):
        generate(model, tokenizer, "the", top_q=0.9)


def test_lists_and_single_strings_are_taken(model, tokenizer):
    one = generate(model, tokenizer, "the", stop="e", bad_words="a", seed=1)
    assert generate(model, tokenizer, "the", stop=["e"], bad_words=["a"], seed=1) == one
    options = SamplingOptions(stop=("e",), bad_words=("a",), seed=2)
    assert generate(model, tokenizer, "the", options, seed=1) == one
