import pytest
import torch
import torch.nn.functional as F

from gpt2lab.generation.batch import Row
from gpt2lab.generation.engine import complete
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.generation.sampling import Sampler

PROMPTS = ["the cat", "", "€uro and", "stop sig", "x" * 14, "the cat"]


def naive_tokens(model, tokenizer, prompt, options, visible):
    """Su et al. 2022, equation 5, word by word: the whole window through the model for every candidate."""
    sampler = Sampler(options, tokenizer)
    row = Row(tokenizer.encode(prompt) or [tokenizer.end_of_text])
    while len(row.tokens) - row.n_prompt < options.max_new_tokens and row.tokens[-1] not in (
        sampler.ends if len(row.tokens) > row.n_prompt else ()
    ):
        context_length = model.config.context_length
        window = visible(row.tokens, row.n_prompt, context_length)
        with torch.no_grad():
            logits_1V = model(torch.tensor([window]))[:, -1, : tokenizer.vocab_size]
        probs_V = sampler.adjust(logits_1V, [row])[0].softmax(dim=0)
        scores = {}
        for token in probs_V.topk(options.top_k).indices.tolist():
            longer = visible([*row.tokens, token], row.n_prompt, context_length)
            with torch.no_grad():
                *before, last = model.hidden(torch.tensor([longer]))[0]
            likeness = F.cosine_similarity(last[None], torch.stack(before), dim=1).max()
            if probs_V[token] > 0:
                alpha = options.penalty_alpha
                scores[token] = (1 - alpha) * probs_V[token] - alpha * likeness
        row.tokens.append(max(scores, key=scores.get))
    return row.tokens[row.n_prompt :]


@pytest.mark.parametrize(
    "options",
    [
        {"penalty_alpha": 0.6, "top_k": 4},
        {"penalty_alpha": 0.3, "top_k": 8, "repetition_penalty": 1.2, "stop_tokens": (97, 101)},
        {"penalty_alpha": 1.0, "top_k": 2, "no_repeat_ngram_size": 2},
    ],
    ids=["plain", "penalised", "all for novelty"],
)
@pytest.mark.parametrize("architecture", ["gpt2", "gpt1"])
def test_cached_and_batched_equal_the_naive_way(make_model, tokenizer, architecture, options, visible):
    """Texts outgrow the context of 16 tokens twice."""
    model = make_model(context_length=16, architecture=architecture).double()
    options = SamplingOptions(max_new_tokens=26, **options)
    completions = complete(model, tokenizer, PROMPTS, options)
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        assert completion.tokens == naive_tokens(model, tokenizer, prompt, options, visible)
        assert complete(model, tokenizer, [prompt], options)[0].tokens == completion.tokens
    assert max(completion.n_restarts for completion in completions) >= 2


def test_alpha_trades_likelihood_for_novelty(model, tokenizer):
    greedy = complete(model, tokenizer, ["the cat"], SamplingOptions(30, temperature=0, logprobs=0))[0]
    found = {}
    for alpha in (1e-9, 0.9):
        options = SamplingOptions(30, penalty_alpha=alpha, top_k=6, logprobs=0)
        found[alpha] = complete(model, tokenizer, ["the cat"], options)[0]
    assert found[1e-9].tokens == greedy.tokens
    likelihood = {alpha: sum(one.logprob for one in done.logprobs) for alpha, done in found.items()}
    assert likelihood[0.9] < likelihood[1e-9]


def test_forbidden_candidates_are_never_chosen(model, tokenizer):
    allowed = {97, 98, 99}
    bias = {token: -torch.inf for token in range(tokenizer.vocab_size) if token not in allowed}
    options = SamplingOptions(20, penalty_alpha=1.0, top_k=10, logit_bias=bias)
    assert set(complete(model, tokenizer, ["the"], options)[0].tokens) <= allowed
    once = SamplingOptions(20, penalty_alpha=0.5, top_k=10, logit_bias=bias, no_repeat_ngram_size=1)
    completion = complete(model, tokenizer, ["the"], once)[0]
    assert completion.finish_reason == "forbidden"
    assert set(completion.tokens) == allowed
