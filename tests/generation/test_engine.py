import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

import gpt2lab
from gpt2lab.base.errors import UserError
from gpt2lab.generation.batch import Row
from gpt2lab.generation.engine import complete, generate, stream
from gpt2lab.generation.options import MAX_SEED, SamplingOptions
from gpt2lab.generation.sampling import Sampler
from gpt2lab.model.gpt import KVCache

PROMPTS = [
    "the cat",
    "",
    "a",
    "€uro and the end of it all, or not",
    "stop sig",
    "x" * 40,
    "\n\n",
    "Once upon",
]
SAMPLED = {"temperature": 0.9, "top_k": 150, "top_p": 0.97, "seed": 5}
NO_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None}
GREEDY = {"temperature": 0, "seed": 5}


def naive_tokens(model, tokenizer, prompt, options):
    """One prompt, no cache: the whole window through the model for every token."""
    window = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    history = Row(list(window))
    sampler = Sampler(options, tokenizer)
    generator = torch.Generator().manual_seed(options.seed)
    drawn = []
    while len(drawn) < options.max_new_tokens and drawn[-1:] != [tokenizer.end_of_text]:
        if len(window) > model.config.context_length:
            window = window[-(model.config.context_length // 2) :]
        with torch.no_grad():
            logits_BV = model(torch.tensor([window]))[:, -1]
        drawn += sampler.choose(logits_BV, [history], [generator])
        window = [*window, drawn[-1]]
        history.tokens.append(drawn[-1])
    return drawn


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
@pytest.mark.parametrize("architecture", ["gpt2", "gpt1"])
def test_cached_and_batched_equal_the_naive_way(make_model, tokenizer, architecture, sampling):
    model = make_model(architecture=architecture, context_length=48).double()
    options = SamplingOptions(max_new_tokens=90, **sampling)  # the context overflows two or three times
    completions = complete(model, tokenizer, PROMPTS, options)
    for i, (prompt, completion) in enumerate(zip(PROMPTS, completions, strict=True)):
        own = SamplingOptions(max_new_tokens=90, **(sampling | {"seed": 5 + i}))
        assert completion.seed == 5 + i
        assert completion.tokens == naive_tokens(model, tokenizer, prompt, own)
        assert complete(model, tokenizer, [prompt], own)[0] == completion
        text_tokens = [token for token in completion.tokens if token != tokenizer.end_of_text]
        assert completion.text == tokenizer.decode(text_tokens)


@pytest.mark.parametrize("max_rows", [1, 2, 3, 8])
def test_how_many_rows_run_at_once_changes_nothing(short_model, tokenizer, max_rows):
    options = SamplingOptions(max_new_tokens=30, stop=("\n", "e"), **SAMPLED)
    prompts = [prompt[:14] for prompt in PROMPTS]
    pieces = stream(short_model, tokenizer, prompts, options, max_rows=max_rows)
    done = {piece.index: piece.completion for piece in pieces if piece.completion}
    assert [done[i] for i in range(len(prompts))] == complete(short_model, tokenizer, prompts, options)


def as_transformers(model):
    """The same weights in transformers' GPT-2, whose matrices are (in, out)."""
    c = model.config
    shape = {"vocab_size": c.vocab_size, "n_positions": c.context_length, "n_embd": c.n_embd}
    theirs = GPT2LMHeadModel(GPT2Config(n_layer=c.n_layer, n_head=c.n_head, **shape, **NO_SPECIAL_TOKENS))
    state = {}
    for name, value in model.state_dict().items():
        transposed = re.fullmatch(r"h\.\d+\.(attn|mlp)\.c_\w+\.weight", name)
        full_name = name if name == "lm_head.weight" else f"transformer.{name}"
        state[full_name] = value.T if transposed else value
    theirs.load_state_dict(state)
    return theirs.to(model.wte.weight.dtype).eval()


def test_greedy_equals_transformers_greedy(model, tokenizer):
    """200 prompts of ten lengths; every one of ours in batches of mixed lengths."""
    theirs = as_transformers(model)
    generator = torch.Generator().manual_seed(0)
    new = 30
    prompts, expected = [], []
    for length in range(1, 31, 3):
        # One-byte pieces of plain text that the tokenizer does not join.
        tokens_BT = torch.randint(ord("A"), ord("D"), (20, length), generator=generator)
        out_BT = theirs.generate(
            tokens_BT,
            attention_mask=torch.ones_like(tokens_BT),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=tokenizer.end_of_text,
            pad_token_id=tokenizer.end_of_text,
        )
        prompts += [tokenizer.decode(row.tolist()) for row in tokens_BT]
        expected += [row[length:].tolist() for row in out_BT]
    completions = complete(model, tokenizer, prompts, SamplingOptions(new, temperature=0))
    for completion, tokens in zip(completions, expected, strict=True):
        padding = [tokenizer.end_of_text] * (new - len(completion.tokens))
        assert completion.tokens + padding == tokens + [tokenizer.end_of_text] * (new - len(tokens))
    assert len({tuple(completion.tokens) for completion in completions}) > 50


def test_float32_scores_in_a_batch_differ_by_rounding_only(make_model, tokenizer, monkeypatch):
    model = make_model()
    seen = []

    choose = Sampler.choose

    def spy(self, logits_BV, histories, generators):
        seen.append(logits_BV)
        return choose(self, logits_BV, histories, generators)

    monkeypatch.setattr(Sampler, "choose", spy)
    options = SamplingOptions(max_new_tokens=20, **SAMPLED)
    together = complete(model, tokenizer, PROMPTS[:4], options)
    batched, alone = seen[:20], seen[20:]
    seen.clear()
    assert all(len(completion.tokens) == 20 for completion in together)
    for i, prompt in enumerate(PROMPTS[:4]):
        seen.clear()
        own = SamplingOptions(max_new_tokens=20, **(SAMPLED | {"seed": 5 + i}))
        assert complete(model, tokenizer, [prompt], own)[0].tokens == together[i].tokens
        for batched_BV, alone in zip(batched, seen, strict=True):
            torch.testing.assert_close(batched_BV[i], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_floating_type_works_and_repeats_itself(make_model, tokenizer, dtype):
    model = make_model(context_length=16).to(dtype)
    first, again = (generate(model, tokenizer, ["a", "the end"], seed=3, max_new_tokens=40) for _ in range(2))
    assert first == again


def test_the_seed_decides(model, tokenizer):
    texts = {seed: generate(model, tokenizer, "the", seed=seed) for seed in (0, 1, 2, MAX_SEED)}
    assert len(set(texts.values())) == 4
    assert generate(model, tokenizer, ["the"] * 4, seed=MAX_SEED) == [texts[s] for s in (MAX_SEED, 0, 1, 2)]
    assert generate(model, tokenizer, "the") != generate(model, tokenizer, "the")
    completion = complete(model, tokenizer, ["the"], SamplingOptions())[0]
    assert generate(model, tokenizer, "the", seed=completion.seed) == completion.text


def test_the_public_function_takes_one_prompt_or_several(model, tokenizer):
    assert gpt2lab.generate is generate
    one = gpt2lab.generate(model, tokenizer, "the", max_new_tokens=5, seed=1)
    assert isinstance(one, str)
    assert gpt2lab.generate(model, tokenizer, ["the"], max_new_tokens=5, seed=1) == [one]
    assert gpt2lab.generate(model, tokenizer, []) == []


@given(st.integers(0, MAX_SEED), st.lists(st.sampled_from(["\n", "th", "e", "END", "é", "\x00"]), max_size=3))
@settings(max_examples=60, deadline=None)
def test_pieces_add_up_to_the_completion(make_model, tokenizer, seed, stops):
    model = make_model(context_length=16)
    options = SamplingOptions(max_new_tokens=40, seed=seed, stop=tuple(stops))
    texts = ["", "", ""]
    done = {}
    for piece in stream(model, tokenizer, ["the", "", "b\n"], options):
        assert piece.index not in done
        texts[piece.index] += piece.text
        if piece.completion:
            done[piece.index] = piece.completion
    for i, text in enumerate(texts):
        completion = done[i]
        assert text == completion.text
        assert not any(stop in text for stop in stops)
        whole = tokenizer.decode([t for t in completion.tokens if t != tokenizer.end_of_text])
        assert whole.startswith(text)
        assert (completion.finish_reason == "stop") == any(stop in whole for stop in stops)
        assert (completion.finish_reason == "end_of_text") == (completion.tokens[-1] == tokenizer.end_of_text)
        assert completion.finish_reason != "length" or len(completion.tokens) == 40


def test_the_end_of_text_token_ends_the_text(model, tokenizer):
    torch.nn.init.zeros_(model.ln_f.weight)  # the same scores after any token:
    model.ln_f.bias.data = model.wte.weight[tokenizer.end_of_text].detach().clone()
    completion = complete(model, tokenizer, ["the"], SamplingOptions(temperature=0))[0]
    assert completion.tokens == [tokenizer.end_of_text]
    assert (completion.text, completion.finish_reason) == ("", "end_of_text")


def test_ids_beyond_the_tokenizers_vocabulary_are_never_drawn(make_model, tokenizer):
    model = make_model(vocab_size=tokenizer.vocab_size + 500)
    completion = complete(model, tokenizer, ["the"], SamplingOptions(max_new_tokens=200, seed=0))[0]
    assert max(completion.tokens) < tokenizer.vocab_size


def test_an_empty_prompt_starts_a_document(model, tokenizer, word_tokenizer):
    started = complete(model, tokenizer, [""], SamplingOptions(max_new_tokens=10, temperature=0))[0].tokens
    with torch.no_grad():
        first = model(torch.tensor([[tokenizer.end_of_text]]))[0, -1].argmax().item()
    assert started[0] == first
    with pytest.raises(UserError, match="empty"):
        generate(model, word_tokenizer, "")


def test_a_vocabulary_of_words_continues_with_a_space(make_model, word_tokenizer):
    model = make_model(architecture="gpt1", vocab_size=word_tokenizer.vocab_size)
    completion = complete(model, word_tokenizer, ["the end"], SamplingOptions(30, seed=1))[0]
    prompt_tokens = word_tokenizer.encode("the end")
    assert "the end" + completion.text == word_tokenizer.decode(prompt_tokens + completion.tokens)
    assert completion.text.startswith(" ")


def test_a_prompt_may_fill_the_context_but_not_exceed_it(model, tokenizer):
    assert complete(model, tokenizer, ["x" * 64], SamplingOptions(1))[0].n_restarts == 0
    assert complete(model, tokenizer, ["x" * 64], SamplingOptions(2, temperature=0))[0].n_restarts <= 1
    message = r"prompt 2: 70 tokens do not fit the model's context of 64\. Shorten it by 6 tokens"
    with pytest.raises(UserError, match=message):
        stream(model, tokenizer, ["a", "x" * 70], SamplingOptions())  # at the call, not at the first piece


def test_a_foreign_tokenizer_is_an_error(make_model, tokenizer):
    with pytest.raises(UserError, match="token 87 is not one of the model's 50"):
        generate(make_model(vocab_size=50), tokenizer, "x")


def test_the_cache_is_no_larger_than_needed(model, tokenizer, monkeypatch):
    shapes = []
    allocate = KVCache.allocate

    def spy(config, n_rows, n_slots, **where):
        shapes.append((n_rows, n_slots))
        return allocate(config, n_rows, n_slots, **where)

    monkeypatch.setattr(KVCache, "allocate", spy)
    complete(model, tokenizer, ["xxx", "xxxxxx"], SamplingOptions(5))
    complete(model, tokenizer, ["x"] * 7, SamplingOptions(500))
    list(stream(model, tokenizer, ["x"] * 7, SamplingOptions(2), max_rows=4))
    assert shapes == [(2, 10), (7, 64), (4, 2)]


def test_a_model_in_training_is_left_as_it_was(make_model, tokenizer):
    model = make_model(embd_pdrop=0.5, resid_pdrop=0.5, attn_pdrop=0.5)
    expected = generate(model, tokenizer, "the", seed=1)
    model.train()
    random_state = torch.get_rng_state()
    assert generate(model, tokenizer, "the", seed=1) == expected  # no dropout
    pieces = stream(model, tokenizer, ["the"], SamplingOptions(seed=1))
    next(pieces)
    assert all(module.training for module in model.modules())  # even between two pieces
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), random_state)
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    assert model.wte.weight.grad is not None


def test_a_model_that_diverged_says_so(model, tokenizer):
    model.wte.weight.data[5] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        generate(model, tokenizer, "the")
