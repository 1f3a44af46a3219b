import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation import logits_process as theirs

from gpt2lab.base.errors import UserError
from gpt2lab.generation.batch import Row
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.generation.processors import processors, spellings
from gpt2lab.generation.sampling import Sampler

V = 12
histories = st.tuples(st.lists(st.integers(0, V - 1), min_size=1, max_size=30), st.integers(0, 2**31))


class Letters:
    """A vocabulary of the letters a to l and an end."""

    vocab_size = V
    end_of_text = V - 1

    def encode(self, text):
        return [ord(letter) - ord("a") for letter in text if letter != " "]


def random_scores(seed):
    return 3 * torch.randn(V, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def ours(scores_V, history, n_prompt=None, **options):
    row = Row(list(history), n_prompt=len(history) if n_prompt is None else n_prompt)
    return Sampler(SamplingOptions(**options), Letters()).adjust(scores_V[None], [row])[0]


def apply(processor, scores_V, history):
    return processor(torch.tensor([history]), scores_V[None].clone())[0]


@given(histories, st.sampled_from([0.5, 0.9, 1.3, 5.0]))
def test_repetition_penalty_equals_transformers(drawn, penalty):
    history, seed = drawn
    scores_V = random_scores(seed)
    expected = apply(theirs.RepetitionPenaltyLogitsProcessor(penalty), scores_V, history)
    assert torch.equal(ours(scores_V, history, repetition_penalty=penalty), expected)


@given(histories, st.integers(1, 5))
def test_no_repeated_ngrams_equals_transformers(drawn, size):
    history, seed = [token % 3 for token in drawn[0]], drawn[1]
    scores_V = random_scores(seed)
    expected = apply(theirs.NoRepeatNGramLogitsProcessor(size), scores_V, history)
    assert torch.equal(ours(scores_V, history, no_repeat_ngram_size=size), expected)


@given(histories, st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=4))
def test_bad_words_equal_transformers(drawn, words):
    history, seed = [token % 3 for token in drawn[0]], drawn[1]
    scores_V = random_scores(seed)
    sequences = [Letters().encode(word) for word in words]
    expected = apply(theirs.NoBadWordsLogitsProcessor(sequences), scores_V, history)
    assert torch.equal(ours(scores_V, history, bad_words=tuple(words)), expected)


@given(histories, st.dictionaries(st.integers(0, V - 1), st.floats(-1000, 1000, width=32), min_size=1))
def test_biases_equal_transformers(drawn, bias):
    history, seed = drawn
    scores_V = random_scores(seed)
    sequences = {(token,): value for token, value in bias.items()}
    expected = apply(theirs.SequenceBiasLogitsProcessor(sequences), scores_V, history)
    assert torch.equal(ours(scores_V, history, logit_bias=bias), expected)


@given(histories, st.integers(0, 30), st.floats(-3, 3), st.floats(-3, 3))
def test_presence_and_frequency_follow_openai_and_ignore_the_prompt(drawn, n_prompt, presence, frequency):
    history, seed = drawn
    scores_V = random_scores(seed)
    counts = Counter(history[n_prompt:])
    expected = scores_V.clone()
    for token, count in counts.items():
        expected[token] -= count * frequency + float(count > 0) * presence
    adjusted = ours(scores_V, history, n_prompt, presence_penalty=presence, frequency_penalty=frequency)
    torch.testing.assert_close(adjusted, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_drawn", [0, 1, 2, 3])
def test_the_end_waits_for_the_least_length(n_drawn):
    adjusted = ours(
        random_scores(0), [1] * (2 + n_drawn), 2, min_new_tokens=2, stop_tokens=(3,), max_new_tokens=9
    )
    forbidden = (adjusted == -torch.inf).nonzero()[:, 0].tolist()
    assert forbidden == ([3, V - 1] if n_drawn < 2 else [])


def test_forced_tokens_leave_nothing_else():
    options = {"forced_start": "cab", "forced_end": True, "max_new_tokens": 5, "bad_words": ("a",)}
    possible = []
    for n_drawn in range(5):
        adjusted = ours(random_scores(n_drawn), [5] * (3 + n_drawn), 3, **options)
        possible.append(adjusted.isfinite().nonzero()[:, 0].tolist())
    free = [token for token in range(V) if token != 0]
    assert possible == [[2], [0], [1], free, [V - 1]]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"stop_tokens": (V,)}, "stop_tokens"),
        ({"logit_bias": {V + 5: 1.0}}, "logit_bias"),
        ({"forced_start": "abc", "max_new_tokens": 2}, "forced_start"),
        ({"forced_start": "abc", "max_new_tokens": 3, "forced_end": True}, "forced_start"),
    ],
)
def test_what_the_vocabulary_cannot_give_is_refused(options, where):
    with pytest.raises(UserError) as caught:
        processors(SamplingOptions(**options), Letters())
    assert caught.value.where == where


def test_no_end_can_be_forced_without_an_end_of_text_token(word_tokenizer):
    with pytest.raises(UserError, match="forced_end"):
        processors(SamplingOptions(forced_end=True), word_tokenizer)


def test_options_left_alone_cost_nothing():
    assert processors(SamplingOptions(temperature=0.5, top_k=3, top_p=0.9), Letters()) == []
    scores_BV = random_scores(0)[None]
    assert Sampler(SamplingOptions(), Letters()).adjust(scores_BV, [None]) is scores_BV


def test_words_are_spelt_with_and_without_a_space(tokenizer):
    assert spellings("the", tokenizer) == [tokenizer.encode("the"), tokenizer.encode(" the")]
    assert spellings(" the", tokenizer) == [tokenizer.encode(" the")]


def test_scores_given_are_not_changed():
    scores_BV = random_scores(0)[None]
    before = scores_BV.clone()
    options = SamplingOptions(repetition_penalty=2.0, logit_bias={1: -torch.inf}, no_repeat_ngram_size=1)
    Sampler(options, Letters()).adjust(scores_BV, [Row([1, 2, 3])])
    assert torch.equal(scores_BV, before)


def test_a_row_with_nothing_left_draws_none_and_moves_no_random_number():
    scores_BV = torch.stack([random_scores(seed) for seed in range(3)])
    bias = dict.fromkeys(range(V), -torch.inf)
    dice = random.Random(0)
    for options in ({"temperature": 0}, {}, {"top_k": 3, "top_p": 0.5}):
        sampler = Sampler(SamplingOptions(no_repeat_ngram_size=1, **options), Letters())
        rows = [Row([1]), Row(list(range(V))), Row([dice.randrange(V) for _ in range(5)])]
        generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
        tokens = sampler.choose(scores_BV, rows, generators)
        alone = [
            sampler.choose(scores_BV[b : b + 1], [row], [torch.Generator().manual_seed(b)])[0]
            for b, row in enumerate(rows)
        ]
        assert tokens == alone
        assert [token is None for token in tokens] == [False, True, False]
        nothing = Sampler(SamplingOptions(logit_bias=bias, **options), Letters())
        assert nothing.choose(scores_BV, rows, generators) == [None] * 3
