import math

import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from gpt2lab.base.errors import UserError
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.generation.sampling import (
    Sampler,
    draw,
    keep_min_p,
    keep_top_p,
    keep_typical,
    likeliest,
)


def random_logits(n_rows, vocab_size, spread, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(n_rows, vocab_size, dtype=torch.float64, generator=generator)


class AnyVocabulary:
    """All that a sampler asks of a tokenizer when no words are involved."""

    vocab_size = 10**9
    end_of_text = None

    def encode(self, text):
        return []


def choose(logits_BV, options, generators):
    return Sampler(options, AnyVocabulary()).choose(logits_BV, [None] * len(logits_BV), generators)


def dense(candidates, vocab_size):
    """(B, V) scores again."""
    logits_BV = torch.full((len(candidates.ids_BK), vocab_size), -torch.inf, dtype=torch.float64)
    assert (candidates.ids_BK.diff(dim=1) > 0).all()
    return logits_BV.scatter(1, candidates.ids_BK, candidates.logits_BK)


def filtered(keep, logits_BV, p):
    return dense(keep(likeliest(logits_BV, 0), p), logits_BV.size(1))


def generators(n, seed=0):
    return [torch.Generator().manual_seed(seed + i) for i in range(n)]


@pytest.mark.parametrize("k", [1, 2, 7, 49, 50, 51, 1000])
def test_top_k_equals_transformers(k):
    logits_BV = random_logits(20, 50, 2.0).round(decimals=1)  # with equal ones at the border
    assert torch.equal(dense(likeliest(logits_BV, k), 50), TopKLogitsWarper(k)(None, logits_BV))


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.99, 0.999999])
@pytest.mark.parametrize(("vocab_size", "spread"), [(2, 1.0), (50, 2.0), (5000, 3.0), (5000, 0.1)])
def test_top_p_equals_transformers(p, vocab_size, spread):
    logits_BV = random_logits(20, vocab_size, spread)
    assert torch.equal(filtered(keep_top_p, logits_BV, p), TopPLogitsWarper(p)(None, logits_BV))


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("vocab_size", "spread"), [(2, 1.0), (50, 2.0), (5000, 3.0)])
def test_min_p_and_typical_equal_transformers(p, vocab_size, spread):
    logits_BV = random_logits(20, vocab_size, spread)
    assert torch.equal(filtered(keep_min_p, logits_BV, p), MinPLogitsWarper(p)(None, logits_BV))
    if p < 1:
        assert torch.equal(filtered(keep_typical, logits_BV, p), TypicalLogitsWarper(p)(None, logits_BV))


def test_top_p_keeps_the_token_that_crosses_p():
    logits_BV = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log()
    for p, n_kept in [(0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.96, 4)]:
        assert filtered(keep_top_p, logits_BV, p).isfinite().sum() == n_kept


def test_processors_apply_in_the_order_of_transformers():
    logits_BV = random_logits(20, 200, 3.0)
    options = SamplingOptions(temperature=0.7, top_k=20, top_p=0.8, min_p=0.05, typical_p=0.7)
    ours = dense(Sampler(options, AnyVocabulary()).candidates(logits_BV, []), 200)
    theirs = logits_BV
    for warper in (
        TemperatureLogitsWarper(0.7),
        TopKLogitsWarper(20),
        TopPLogitsWarper(0.8),
        MinPLogitsWarper(0.05),
        TypicalLogitsWarper(0.7),
    ):
        theirs = warper(None, theirs)
    torch.testing.assert_close(ours.softmax(1), theirs.softmax(1), rtol=0, atol=1e-12)


def chi_square(counts, expected):
    seen = expected > 0
    assert counts[~seen].sum() == 0
    statistic = ((counts - expected)[seen] ** 2 / expected[seen]).sum().item()
    freedom = seen.sum().item() - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)  # about standard normal


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 2.0}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.2}, {"typical_p": 0.6}]
)
def test_tokens_are_drawn_as_often_as_their_probability_says(options):
    options = SamplingOptions(**options)
    n_draws = 40_000
    logits_V = random_logits(1, 12, 1.5)
    processed = dense(Sampler(options, AnyVocabulary()).candidates(logits_V, []), 12)
    one = torch.Generator().manual_seed(3)
    tokens = choose(logits_V.expand(n_draws, -1), options, [one] * n_draws)
    counts = torch.bincount(torch.tensor(tokens), minlength=12).double()
    assert abs(chi_square(counts, n_draws * processed.softmax(1)[0])) < 4


def test_consecutive_seeds_are_independent():
    """Samples of one call have the seeds s, s+1, ...: their first tokens must be as varied as any."""
    logits_V = random_logits(1, 12, 0.5)
    tokens = choose(logits_V.expand(20_000, -1), SamplingOptions(), generators(20_000))
    expected = 20_000 * logits_V.softmax(1)[0]
    assert abs(chi_square(torch.bincount(torch.tensor(tokens), minlength=12).double(), expected)) < 4


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 1), (0.4999, 1), (0.5, 3), (1 - 2**-53, 3)])
def test_the_draw_never_leaves_what_is_possible(monkeypatch, uniform, token):
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, uniform, dtype=torch.float64))
    logits_BV = torch.full((1, 6), -torch.inf, dtype=torch.float64)
    logits_BV[0, 1] = logits_BV[0, 3] = 2.0
    assert draw(likeliest(logits_BV, 0), generators(1)).tolist() == [token]


def test_the_highest_number_draws_the_last_possible_token(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, 1 - 2**-53, dtype=torch.float64))
    logits_BV = random_logits(3000, 30, 1.0)  # cumulative sums end a little below, at and a little above 1
    logits_BV[:, 25:] = -torch.inf
    assert draw(likeliest(logits_BV, 0), generators(3000)).unique().tolist() == [24]


def test_a_draw_takes_one_number_from_the_rows_own_generator():
    ours, other = generators(2)
    reference = torch.Generator().manual_seed(0)
    choose(random_logits(2, 30, 1.0), SamplingOptions(top_p=0.9), [ours, other])
    torch.rand(1, generator=reference, dtype=torch.float64)
    assert torch.equal(ours.get_state(), reference.get_state())


def test_a_row_does_not_depend_on_its_neighbours():
    logits_BV = random_logits(16, 3000, 2.0)
    options = SamplingOptions(temperature=0.9, top_k=2000, top_p=0.95)
    together = choose(logits_BV, options, generators(16))
    alone = [choose(logits_BV[i : i + 1], options, generators(16)[i : i + 1])[0] for i in range(16)]
    assert together == alone


def test_greedy_takes_the_lowest_id_among_equals_and_no_random_number():
    logits_BV = torch.tensor([[0.0, 2.0, 2.0, 1.0], [3.0, 3.0, 3.0, 3.0]])
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert choose(logits_BV, SamplingOptions(temperature=0), [generator, generator]) == [1, 0]
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_coldest_temperature_is_greedy_and_the_hottest_uniform(dtype):
    logits_BV = random_logits(50, 40, 30.0).to(dtype)
    greedy = choose(logits_BV, SamplingOptions(temperature=0), generators(50))
    assert choose(logits_BV, SamplingOptions(temperature=1e-6), generators(50)) == greedy
    hot = choose(logits_BV[:1].expand(2000, -1), SamplingOptions(temperature=1e300), generators(2000))
    assert len(set(hot)) == 40


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_scores_that_are_not_finite_are_an_error(bad, temperature):
    logits_BV = random_logits(2, 10, 1.0)
    logits_BV[1, 4] = bad
    with pytest.raises(UserError, match="not finite"):
        choose(logits_BV, SamplingOptions(temperature=temperature), generators(2))
