"""Does every deterministic strategy give the very tokens that transformers gives?

    python benchmarks/decoding_exactness.py --prompts 25

Two models, one with random weights and one trained here for a few hundred steps on the English of this Python
installation, continue that many prompts in each of the cases below, all of a case in one batch of mixed
lengths. First both sides compute in float64, transformers' own rounding of scores to float32 taken out: every
token must be the same. Then both compute in float32 as they come: where a token differs, the float64 scores
of the two are compared.

A table on standard error, the figures as JSON on standard output. Exit code 1 if a token differs in float64,
or by more than 1e-5 in float32.
"""

import argparse
import json
import platform
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2lab.corpus.python_docs import read_python_docs
from gpt2lab.generation.batch import Row
from gpt2lab.generation.engine import complete
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.generation.processors import spellings
from gpt2lab.generation.sampling import Sampler
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer, train_bpe

NEW_TOKENS = 30
MARGIN = 1e-5


@dataclass(frozen=True)
class Case:
    """One set of options, as we and as transformers name them."""

    name: str
    ours: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)


def cases(tokenizer: Tokenizer, stop_tokens: tuple[int, ...]) -> list[Case]:
    """Every deterministic strategy that transformers has too; `stop_tokens` end texts early."""
    words = [" the", "of", "a"]
    sequences = [tokens for word in words for tokens in spellings(word, tokenizer)]
    biased = {tokenizer.encode(" ")[0]: 3.5, tokenizer.encode("e")[0]: -2.0}
    sequence_bias = [[[token], bias] for token, bias in biased.items()]
    ngram, banned = "no_repeat_ngram_size", {"bad_words": tuple(words)}
    both = [
        ("greedy", {}),
        ("repetition penalty 1.3", {"repetition_penalty": 1.3}),
        ("repetition penalty 0.8", {"repetition_penalty": 0.8}),
        ("no repeated bigram", {ngram: 2}),
        ("no repeated trigram", {ngram: 3}),
        ("at least 20 tokens", {"min_new_tokens": 20}),
        ("2 beams", {"num_beams": 2}),
        ("5 beams", {"num_beams": 5}),
        ("4 beams, first that end", {"num_beams": 4, "early_stopping": True}),
        ("4 beams, never early", {"num_beams": 4, "early_stopping": "never"}),
        ("3 beams, length penalty 0", {"num_beams": 3, "length_penalty": 0.0}),
        ("3 beams, length penalty 2", {"num_beams": 3, "length_penalty": 2.0}),
        ("3 beams, never early, 2", {"num_beams": 3, "length_penalty": 2.0, "early_stopping": "never"}),
        ("3 beams, length penalty -1", {"num_beams": 3, "length_penalty": -1.0, "early_stopping": "never"}),
        ("5 beams as for TL;DR:", {"num_beams": 5, ngram: 2, "early_stopping": True}),
        ("3 beams, repetition penalty", {"num_beams": 3, "repetition_penalty": 1.2}),
        ("3 beams, at least 20 tokens", {"num_beams": 3, "min_new_tokens": 20}),
    ]
    found = [Case(name, options, options) for name, options in both]
    returned = {"num_beams": 6, "early_stopping": True}
    found += [
        Case("6 beams, 4 texts", {**returned, "samples": 4}, {**returned, "num_return_sequences": 4}),
        Case("bad words", banned, {"bad_words_ids": sequences}),
        Case("3 beams, bad words", {"num_beams": 3, **banned}, {"num_beams": 3, "bad_words_ids": sequences}),
        Case("biases", {"logit_bias": biased}, {"sequence_bias": sequence_bias}),
        Case("forced end", {"forced_end": True}, {"forced_eos_token_id": tokenizer.end_of_text}),
        Case(
            "4 beams, forced end",
            {"num_beams": 4, "forced_end": True},
            {"num_beams": 4, "forced_eos_token_id": tokenizer.end_of_text},
        ),
        Case(
            "all at once",
            {"repetition_penalty": 1.1, ngram: 3, "min_new_tokens": 5, "logit_bias": biased, **banned},
            {
                "repetition_penalty": 1.1,
                ngram: 3,
                "min_new_tokens": 5,
                "sequence_bias": sequence_bias,
                "bad_words_ids": sequences,
            },
        ),
        Case("prompt look-up", {"prompt_lookup": 5}),
    ]
    ends = [tokenizer.end_of_text, *stop_tokens]
    return [
        Case(
            case.name,
            {"max_new_tokens": NEW_TOKENS, "temperature": 0, "stop_tokens": stop_tokens, **case.ours},
            {"max_new_tokens": NEW_TOKENS, "eos_token_id": ends, **case.theirs},
        )
        for case in found
    ]


def end_tokens(model: GPT, tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """A few tokens that this model writes often enough, but not at once."""
    prompts = pick_prompts(text, 20, random.Random(1))
    options = SamplingOptions(NEW_TOKENS, temperature=0)
    counts = Counter(token for one in complete(model, tokenizer, prompts, options) for token in one.tokens)
    return tuple(token for token, _ in counts.most_common(6)[3:])


def english(n_characters: int) -> str:
    """The first so many characters of this Python installation's documentation."""
    return "\n\n".join(document.text for document in islice(read_python_docs(), 120))[:n_characters]


def random_model(tokenizer: Tokenizer) -> GPT:
    """Weights large enough that every token's choice depends on the whole text."""
    shape = {
        "vocab_size": tokenizer.vocab_size,
        "context_length": 128,
        "n_layer": 2,
        "n_head": 4,
        "n_embd": 32,
    }
    model = GPT(ModelConfig(**shape))
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        noise = torch.empty_like(parameter).normal_(std=0.25, generator=generator)
        parameter.data = noise + 1 if "ln_" in name and name.endswith("weight") else noise
    return model.eval()


def trained_model(tokenizer: Tokenizer, text: str, n_steps: int) -> GPT:
    """A small model that has learnt some English."""
    shape = {
        "vocab_size": tokenizer.vocab_size,
        "context_length": 128,
        "n_layer": 2,
        "n_head": 4,
        "n_embd": 64,
    }
    model = GPT(ModelConfig(**shape)).initialise(torch.Generator().manual_seed(1))
    tokens_N = torch.tensor(tokenizer.encode(text))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    generator = torch.Generator().manual_seed(2)
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / n_steps)
        starts_B1 = torch.randint(len(tokens_N) - 65, (16, 1), generator=generator)
        window_BT = tokens_N[starts_B1 + torch.arange(65)]
        logits_BTV = model(window_BT[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), window_BT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def as_transformers(model: GPT) -> GPT2LMHeadModel:
    """The same weights in transformers' GPT-2, whose matrices are (in, out)."""
    c = model.config
    shape = {"vocab_size": c.vocab_size, "n_positions": c.context_length, "n_embd": c.n_embd}
    no_special = {"bos_token_id": None, "eos_token_id": None}
    theirs = GPT2LMHeadModel(GPT2Config(n_layer=c.n_layer, n_head=c.n_head, **shape, **no_special))
    state = {}
    for name, value in model.state_dict().items():
        transposed = re.fullmatch(r"h\.\d+\.(attn|mlp)\.c_\w+\.weight", name)
        state[name if name == "lm_head.weight" else f"transformer.{name}"] = value.T if transposed else value
    theirs.load_state_dict(state)
    return theirs.to(model.wte.weight.dtype).eval()


class _DoubleTorch:
    """The torch module, but float32 is float64."""

    def __getattr__(self, name: str) -> Any:
        return torch.float64 if name in ("float32", "float") else getattr(torch, name)


@contextmanager
def unrounded() -> Iterator[None]:
    """transformers' decoding loops round scores to float32, also those of a float64 model; not in here."""
    module = transformers.generation.utils
    module.torch = _DoubleTorch()
    try:
        yield
    finally:
        module.torch = torch


def reference(
    theirs: GPT2LMHeadModel, tokenizer: Tokenizer, prompts: Sequence[str], case: Case
) -> list[list[int]]:
    """What transformers generates; prompts of equal length together, so that nothing needs padding."""
    of_length: dict[int, list[int]] = defaultdict(list)
    encoded = [tokenizer.encode(prompt) for prompt in prompts]
    for index, tokens in enumerate(encoded):
        of_length[len(tokens)].append(index)
    n_texts = case.theirs.get("num_return_sequences", 1)
    found: dict[int, list[int]] = {}
    for length, indices in of_length.items():
        tokens_BT = torch.tensor([encoded[index] for index in indices])
        out_BT = theirs.generate(
            tokens_BT,
            attention_mask=torch.ones_like(tokens_BT),
            do_sample=False,
            pad_token_id=tokenizer.end_of_text,
            **case.theirs,
        )
        for number, row_T in enumerate(out_BT):
            index = indices[number // n_texts] * n_texts + number % n_texts
            found[index] = _until_end(row_T[length:].tolist(), case.theirs["eos_token_id"])
    return [found[index] for index in range(len(prompts) * n_texts)]


def _until_end(tokens: list[int], ends: list[int]) -> list[int]:
    return next((tokens[: n + 1] for n, token in enumerate(tokens) if token in ends), tokens)


def mismatches(
    model: GPT, theirs: GPT2LMHeadModel, tokenizer: Tokenizer, prompts: Sequence[str], case: Case
) -> list[tuple[str, list[int], list[int]]]:
    """(prompt, our tokens, theirs) wherever they differ."""
    options = SamplingOptions(**case.ours)
    ours = [completion.tokens for completion in complete(model, tokenizer, prompts, options)]
    expected = reference(theirs, tokenizer, prompts, case)
    repeated = [prompt for prompt in prompts for _ in range(options.samples)]
    both = zip(repeated, ours, expected, strict=True)
    return [(prompt, tokens, other) for prompt, tokens, other in both if tokens != other]


def margin(exact: GPT, tokenizer: Tokenizer, mismatch: tuple[str, list[int], list[int]], case: Case) -> float:
    """How far apart the two choices are in float64: scores of the first tokens that differ, or of beams."""
    prompt, ours, theirs = mismatch
    options = SamplingOptions(**case.ours)
    sampler = Sampler(options, tokenizer)

    def total(drawn: list[int]) -> tuple[float, list[float]]:
        row, scores = Row(tokenizer.encode(prompt)), []
        for token in drawn:
            with torch.no_grad():
                logits_1V = exact(torch.tensor([row.tokens]))[:, -1]
            if options.num_beams > 1:
                logits_1V = logits_1V.log_softmax(dim=1)
            scores.append(float(sampler.adjust(logits_1V, [row])[0, token]))
            row.tokens.append(token)
        return sum(scores) / len(drawn) ** options.length_penalty, scores

    if options.num_beams > 1:
        return abs(total(ours)[0] - total(theirs)[0])
    same = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    return abs(total(ours[: same + 1])[1][-1] - total(theirs[: same + 1])[1][-1])


def pick_prompts(text: str, n: int, dice: random.Random) -> list[str]:
    """Stretches of text of few different lengths in characters."""
    starts = [dice.randrange(len(text) - 100) for _ in range(n)]
    return [text[start : start + dice.choice((1, 8, 20, 45, 90))] for start in starts]


def compare(
    model: GPT, tokenizer: Tokenizer, text: str, n_prompts: int
) -> Iterator[tuple[str, int, int, int, float]]:
    """For every case: its name, prompts, mismatches in float64, in float32, and the largest margin there."""
    exact = GPT(model.config).double()
    exact.load_state_dict(model.state_dict())
    exact.eval()
    theirs, theirs_exact = as_transformers(model), as_transformers(exact)
    dice = random.Random(3)
    for case in cases(tokenizer, end_tokens(model, tokenizer, text)):
        prompts = pick_prompts(text, n_prompts, dice)
        with unrounded():
            wrong = mismatches(exact, theirs_exact, tokenizer, prompts, case)
        rounded = mismatches(model, theirs, tokenizer, prompts, case)
        margins = [margin(exact, tokenizer, mismatch, case) for mismatch in rounded]
        yield case.name, n_prompts, len(wrong), len(rounded), max(margins, default=0.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=25, help="for each case and model")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    text = english(600_000)
    tokenizer = train_bpe([text[:200_000]], 600)
    models = {"random": random_model(tokenizer), "trained": trained_model(tokenizer, text[:400_000], 400)}
    rows, started = [], time.monotonic()
    print(f"{'model':<8} {'case':<30} prompts  differ in float64  in float32  margin", file=sys.stderr)
    for kind, model in models.items():
        for name, n, wrong, rounded, worst in compare(model, tokenizer, text[400_000:], arguments.prompts):
            print(f"{kind:<8} {name:<30} {n:7}  {wrong:17}  {rounded:10}  {worst:.1e}", file=sys.stderr)
            rows.append([kind, name, n, wrong, rounded, worst])
    n_prompts, n_wrong = sum(row[2] for row in rows), sum(row[3] for row in rows)
    worst = max(row[5] for row in rows)
    n_rounded, minutes = sum(row[4] for row in rows), (time.monotonic() - started) / 60
    print(f"{n_prompts} prompts: {n_wrong} differ in float64, {n_rounded} in float32", file=sys.stderr)
    print(f"largest margin {worst:.1e}; {minutes:.1f} minutes", file=sys.stderr)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"machine": platform.machine(), **versions, "rows": rows}))
    return 1 if n_wrong or worst > MARGIN else 0


if __name__ == "__main__":
    sys.exit(main())
