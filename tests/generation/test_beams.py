import pytest
import torch

from gpt2lab.base.errors import UserError
from gpt2lab.generation.batch import Row
from gpt2lab.generation.engine import complete, generate, stream
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.generation.sampling import Sampler

PROMPTS = ["the cat", "", "€uro and", "stop sig", "x" * 14, "\n\n"]


def naive_beams(model, tokenizer, prompt, options, visible):
    """Beam search by its definition, no cache: (score, tokens) of the best texts that ended, best first."""
    sampler = Sampler(options, tokenizer)
    prompt_tokens = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    n, running, ended = options.num_beams, [(0.0, [])], []
    for length in range(1, options.max_new_tokens + 1):
        candidates = []
        for total, drawn in running:
            row = Row(prompt_tokens + drawn, n_prompt=len(prompt_tokens))
            window = visible(row.tokens, row.n_prompt, model.config.context_length)
            with torch.no_grad():
                logits_1V = model(torch.tensor([window]))[:, -1, : tokenizer.vocab_size]
            scores_V = sampler.adjust(logits_1V.log_softmax(dim=1), [row])[0].tolist()
            candidates += [(total + score, [*drawn, token]) for token, score in enumerate(scores_V)]
        candidates.sort(key=lambda one: -one[0])
        going_on = []
        for rank, (total, drawn) in enumerate(candidates[: max(2, 1 + len(sampler.ends)) * n]):
            text = tokenizer.decode([token for token in drawn if token != tokenizer.end_of_text])
            if (
                drawn[-1] in sampler.ends
                or length == options.max_new_tokens
                or any(s in text for s in options.stop)
            ):
                if rank < n and not (options.early_stopping is True and len(ended) == n):
                    ended.append((total / length**options.length_penalty, drawn))
            elif len(going_on) < n:
                going_on.append((total, drawn))
        ended = sorted(ended, key=lambda one: -one[0])[:n]
        running = going_on
        if not running:
            break
        hoped = (
            options.max_new_tokens
            if options.early_stopping == "never" and options.length_penalty > 0
            else length
        )
        full = len(ended) == n
        if full and (
            options.early_stopping is True or running[0][0] / hoped**options.length_penalty <= ended[-1][0]
        ):
            break
    return ended[: options.samples]


OPTIONS = [
    {"num_beams": 3, "samples": 3},
    {"num_beams": 4, "samples": 2, "early_stopping": True, "stop": ("e", "\n", "th")},
    {"num_beams": 3, "length_penalty": 2.0, "early_stopping": "never", "stop_tokens": (86, 252)},
    {
        "num_beams": 3,
        "samples": 3,
        "length_penalty": -0.2,
        "early_stopping": "never",
        "stop_tokens": (41, 86),
    },
    {"num_beams": 2, "no_repeat_ngram_size": 2, "frequency_penalty": 0.5, "presence_penalty": 0.3},
    {"num_beams": 5, "samples": 5, "early_stopping": True, "no_repeat_ngram_size": 2, "length_penalty": 0.0},
    {"num_beams": 2, "min_new_tokens": 8, "forced_start": "th", "forced_end": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options))
def test_cached_and_batched_beams_equal_the_naive_way(short_model, tokenizer, options, visible):
    """Texts outgrow the context of 16 tokens twice."""
    options = SamplingOptions(max_new_tokens=22, **options)
    completions = complete(short_model, tokenizer, PROMPTS, options)
    n_restarts = 0
    for i, prompt in enumerate(PROMPTS):
        expected = naive_beams(short_model, tokenizer, prompt, options, visible)
        own = completions[i * options.samples : (i + 1) * options.samples]
        assert [completion.tokens for completion in own] == [tokens for _, tokens in expected]
        for completion, (score, _) in zip(own, expected, strict=True):
            assert completion.score == pytest.approx(score, abs=1e-9)
            n_restarts += completion.n_restarts
        alone = complete(short_model, tokenizer, [prompt], options)
        assert [one.tokens for one in alone] == [one.tokens for one in own]
    assert n_restarts or options.stop_tokens  # those end texts before


def test_one_beam_is_greedy(model, tokenizer):
    """With 2 beams the best is at least as likely as what greedy finds."""
    for prompt in PROMPTS:
        greedy = complete(model, tokenizer, [prompt], SamplingOptions(8, temperature=0, logprobs=0))[0]
        beams = SamplingOptions(8, num_beams=4, length_penalty=0.0, logprobs=0, early_stopping="never")
        best = complete(model, tokenizer, [prompt], beams)[0]
        assert best.score == pytest.approx(sum(one.logprob for one in best.logprobs), abs=1e-9)
        assert best.score >= sum(one.logprob for one in greedy.logprobs) - 1e-9


def test_a_text_of_beams_comes_in_one_piece(model, tokenizer):
    options = SamplingOptions(10, num_beams=3, samples=2, stop=("e",))
    pieces = list(stream(model, tokenizer, ["the", "a"], options))
    assert sorted(piece.index for piece in pieces) == [0, 1, 2, 3]
    assert all(piece.text == piece.completion.text for piece in pieces)
    assert sum(piece.n_tokens for piece in pieces) == sum(len(piece.completion.tokens) for piece in pieces)
    assert not any("e" in piece.text for piece in pieces)


def test_texts_end_where_nothing_more_is_allowed(model, tokenizer):
    bias = dict.fromkeys(range(tokenizer.vocab_size), -torch.inf) | {97: 0.0, 98: 0.0}
    options = SamplingOptions(10, num_beams=3, samples=3, logit_bias=bias, no_repeat_ngram_size=1)
    completions = complete(model, tokenizer, ["xyz"], options)
    assert [completion.finish_reason for completion in completions] == ["forbidden"] * 3
    assert {tuple(sorted(completion.tokens)) for completion in completions} == {(97, 98)}


def test_summaries_need_no_more_than_the_papers_options(model, tokenizer):
    text = generate(
        model,
        tokenizer,
        "the END of the stop sign\nTL;DR:",
        num_beams=5,
        no_repeat_ngram_size=2,
        early_stopping=True,
        max_new_tokens=25,
    )
    assert isinstance(text, str)
    with pytest.raises(UserError, match="num_beams"):
        generate(model, tokenizer, "the", num_beams=0)
