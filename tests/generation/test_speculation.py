import itertools
import math
from collections import Counter

import pytest
import torch

from gpt2lab.base.errors import UserError
from gpt2lab.generation.batch import Row
from gpt2lab.generation.engine import complete, generate, stream
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.generation.sampling import Sampler
from gpt2lab.generation.speculation import look_up
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import WordLevelTokenizer
from gpt2lab.tokenizer.vocabulary import Vocabulary

PROMPTS = ["the cat", "", "stop stop stop", "€uro and", "x" * 14, "the cat"]
PENALISED = {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "frequency_penalty": 0.2, "stop": ("e",)}


def noisy(model, scale, seed=5):
    """A draft that often agrees with the model: its weights with some noise."""
    draft = GPT(model.config).to(model.wte.weight.dtype)
    generator = torch.Generator().manual_seed(seed)
    for parameter, other in zip(draft.parameters(), model.parameters(), strict=True):
        noise = torch.empty_like(other).normal_(std=scale, generator=generator)
        parameter.data = other.data + noise
    return draft.eval()


@pytest.mark.parametrize("penalties", [{}, PENALISED], ids=["plain", "penalised"])
@pytest.mark.parametrize("context_length", [64, 16, 5, 2])
def test_greedy_with_guesses_is_greedy(make_model, tokenizer, context_length, penalties):
    """Texts outgrow the small contexts many times, the draft's own context too."""
    model = make_model(context_length=context_length).double()
    prompts = [prompt[: context_length // 2] for prompt in PROMPTS]
    options = SamplingOptions(max_new_tokens=40, temperature=0, seed=1, **penalties)
    plain = complete(model, tokenizer, prompts, options)
    for n in (1, 3, 10):
        looked_up = SamplingOptions(max_new_tokens=40, temperature=0, seed=1, prompt_lookup=n, **penalties)
        assert complete(model, tokenizer, prompts, looked_up) == plain
        drafted = SamplingOptions(max_new_tokens=40, temperature=0, seed=1, draft_tokens=n, **penalties)
        for draft in (noisy(model, 0.02), make_model(context_length=7, n_layer=1).double()):
            if max(len(tokenizer.encode(prompt)) for prompt in prompts) <= 40:
                assert complete(model, tokenizer, prompts, drafted, draft=draft) == plain


@pytest.mark.parametrize("options", [{}, {"top_k": 6, "temperature": 0.7}, {"top_p": 0.8, **PENALISED}])
def test_prompt_look_up_gives_the_text_of_the_same_seed(short_model, tokenizer, options):
    options = SamplingOptions(max_new_tokens=40, seed=4).changed(options)
    plain = complete(short_model, tokenizer, PROMPTS, options)
    assert complete(short_model, tokenizer, PROMPTS, options.changed({"prompt_lookup": 4})) == plain


def test_guesses_save_passes(model, tokenizer, monkeypatch):
    passes = []
    hidden = model.hidden
    monkeypatch.setattr(model, "hidden", lambda *given: passes.append(1) or hidden(*given))
    options = SamplingOptions(max_new_tokens=60, temperature=0)
    complete(model, tokenizer, ["the the the"], options)
    assert len(passes) == 60
    passes.clear()
    complete(model, tokenizer, ["the the the"], options, draft=noisy(model, 0.0))
    assert len(passes) == 1 + math.ceil(59 / 5)
    passes.clear()
    complete(model, tokenizer, ["the the the"], options.changed({"prompt_lookup": 6}))
    assert len(passes) < 50  # greedy texts of a random model go in circles


def test_a_guessed_text_does_not_depend_on_its_neighbours(short_model, tokenizer):
    draft = noisy(short_model, 0.05)
    options = SamplingOptions(max_new_tokens=30, seed=2, temperature=0.8, top_k=20, logprobs=1)
    together = complete(short_model, tokenizer, PROMPTS, options, draft=draft)
    for i, prompt in enumerate(PROMPTS):
        own = options.changed({"seed": 2 + i})
        [alone] = complete(short_model, tokenizer, [prompt], own, draft=draft)
        assert (alone.tokens, alone.text) == (together[i].tokens, together[i].text)
        for one, other in zip(alone.logprobs, together[i].logprobs, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-9)
    few = {
        piece.index: piece.completion.tokens
        for piece in stream(short_model, tokenizer, PROMPTS, options, draft=draft, max_rows=2)
        if piece.completion
    }
    assert [few[i] for i in range(len(PROMPTS))] == [one.tokens for one in together]


TINY = WordLevelTokenizer(Vocabulary("gpt1", ("<unk>", "a", "b", "a</w>", "b</w>"), (), {"<unk>": 0}))


def tiny_model(seed):
    generator = torch.Generator().manual_seed(seed)
    model = GPT(ModelConfig(vocab_size=5, context_length=16, n_layer=1, n_head=2, n_embd=8)).double()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.6, generator=generator)
    return model.eval()


def exact_probabilities(model, prompt, options):
    """Of every text of max_new_tokens tokens."""
    sampler = Sampler(options, TINY)
    found = {}
    for drawn in itertools.product(range(5), repeat=options.max_new_tokens):
        row, probability = Row(TINY.encode(prompt)), 1.0
        for token in drawn:
            with torch.no_grad():
                logits_1V = model(torch.tensor([row.tokens]))[:, -1]
            candidates = sampler.candidates(logits_1V, [row])
            chosen = (candidates.ids_BK == token).nonzero()
            probability *= float(candidates.logits_BK.softmax(1)[0, chosen[0, 1]]) if len(chosen) else 0.0
            if not probability:
                break
            row.tokens.append(token)
        found[drawn] = probability
    return found


def surprise(counts, expected, n):
    """Chi-square of the counts, as a deviation that is about standard normal; rare texts are one cell."""
    rare = [text for text, probability in expected.items() if n * probability < 5]
    cells = [(counts[text], n * expected[text]) for text in expected if text not in set(rare)]
    cells.append((sum(counts[text] for text in rare), n * sum(expected[text] for text in rare)))
    assert sum(count for count, _ in cells) == n
    assert not any(counts[text] for text in rare if expected[text] == 0)
    statistic = sum((count - mean) ** 2 / mean for count, mean in cells if mean)
    freedom = sum(mean > 0 for _, mean in cells) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


SAMPLED = [
    {},
    {"temperature": 0.7, "top_k": 3},
    {"top_p": 0.8, "min_p": 0.05},
    {"typical_p": 0.7, "repetition_penalty": 1.5, "frequency_penalty": 0.4},
]


def check_distribution(options, n):
    options = SamplingOptions(max_new_tokens=4, samples=n, seed=1).changed(options)
    model, draft = tiny_model(1), tiny_model(2)
    expected = exact_probabilities(model, "a b", options)
    assert sum(expected.values()) == pytest.approx(1)
    for way in ({"draft": draft}, {"draft": model}, {"lookup": 3}):
        own = options.changed({"prompt_lookup": way.get("lookup", 0), "draft_tokens": 2})
        completions = complete(model, TINY, ["a b"], own, draft=way.get("draft"))
        counts = Counter(tuple(completion.tokens) for completion in completions)
        assert abs(surprise(counts, expected, n)) < 4, way
    other = exact_probabilities(draft, "a b", options)
    drawn = complete(draft, TINY, ["a b"], options)
    assert surprise(Counter(tuple(one.tokens) for one in drawn), other, n) < 4
    wrong = {text: max(probability, 1e-4) for text, probability in expected.items()}
    assert surprise(Counter(tuple(one.tokens) for one in drawn), wrong, n) > 10  # the test can tell


@pytest.mark.parametrize("options", SAMPLED[1::2])
def test_what_is_drawn_with_guesses_is_distributed_as_without(options):
    check_distribution(options, 500)


@pytest.mark.slow
@pytest.mark.parametrize("options", SAMPLED)
def test_what_is_drawn_with_guesses_is_distributed_as_without_closely(options):
    check_distribution(options, 6000)


@pytest.mark.parametrize(
    ("tokens", "n", "found"),
    [
        ([1, 2, 3, 9, 1, 2, 3], 4, [9, 1, 2, 3]),
        ([1, 2, 3, 9, 1, 2, 3], 2, [9, 1]),
        ([7, 3, 5, 1, 2, 3, 6, 2, 3], 1, [6]),
        ([1, 3, 4, 3, 5, 3], 1, [5]),
        ([1, 2, 3], 3, []),
        ([5, 5], 3, [5]),
        ([5], 3, []),
    ],
)
def test_look_up_takes_the_latest_longest_match(tokens, n, found):
    assert look_up(tokens, n) == found


def test_a_draft_of_another_vocabulary_is_refused(make_model, model, tokenizer):
    draft = make_model(vocab_size=100)
    with pytest.raises(UserError, match="draft: it knows 100 tokens"):
        generate(model, tokenizer, "the", draft=draft)


@pytest.mark.parametrize(
    "options", [{"num_beams": 2}, {"penalty_alpha": 0.5, "top_k": 3}, {"prompt_lookup": 2}]
)
def test_a_draft_is_refused_where_it_is_of_no_use(model, tokenizer, options):
    with pytest.raises(UserError, match="draft: does not go with"):
        generate(model, tokenizer, "the", draft=model, **options)


def test_a_draft_may_have_a_shorter_context_than_the_prompt(make_model, tokenizer):
    model = make_model(context_length=64).double()
    draft = make_model(context_length=4, n_layer=1).double()
    prompt = "the END of the stop sign costs"
    for options in ({"temperature": 0}, {"seed": 3}):
        text = generate(model, tokenizer, prompt, draft=draft, max_new_tokens=30, **options)
        assert isinstance(text, str)
