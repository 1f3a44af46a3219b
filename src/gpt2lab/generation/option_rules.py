"""Which values of the options are possible, and which do not go together; one line for each mistake."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gpt2lab.base.errors import UserError

if TYPE_CHECKING:
    from gpt2lab.generation.options import SamplingOptions

MAX_SEED = 2**32 - 1  # torch's CPU generator looks at the low 32 bits of a seed and no further
_COLDEST = 1e-6
_LARGEST = 1000.0  # of what is added to scores: decides everything, and nothing overflows


def check(options: "SamplingOptions") -> None:
    """Raise the `UserError` of the first option that is not possible."""
    for name, (valid, fix) in _RANGES.items():
        value = getattr(options, name)
        if not valid(value):
            raise UserError(f"{value!r} is not possible", where=name, fix=fix)
    if options.min_new_tokens > options.max_new_tokens:
        raise UserError(
            f"{options.min_new_tokens} is more than max_new_tokens {options.max_new_tokens}",
            where="min_new_tokens",
            fix="Lower it, or raise max_new_tokens",
        )
    _check_beams(options)
    _check_contrastive(options)


def _check_beams(options: "SamplingOptions") -> None:
    if options.num_beams == 1:
        _refuse_set(options, ("length_penalty", "early_stopping"), "num_beams 1", "it ranks beams")
        return
    with_beams = f"num_beams {options.num_beams}"
    draws = ("top_k", "top_p", "min_p", "typical_p")
    _refuse_set(options, draws, with_beams, "beam search draws nothing")
    if options.temperature not in (0, 1):
        raise _together("temperature", with_beams, "beam search draws nothing")
    for name in ("penalty_alpha", "prompt_lookup"):
        _refuse_set(options, (name,), with_beams, "each is a way of its own to the next token")
    if options.samples > options.num_beams:
        raise UserError(
            f"{options.samples} texts cannot come from {options.num_beams} beams",
            where="samples",
            fix="Ask for at most num_beams",
        )


def _check_contrastive(options: "SamplingOptions") -> None:
    if not options.penalty_alpha:
        return
    contrastive = f"penalty_alpha {options.penalty_alpha:g}"
    if options.top_k < 2:
        raise UserError(
            f"contrastive search chooses among the top_k likeliest tokens, and top_k is {options.top_k}",
            where="penalty_alpha",
            fix="Set top_k to 2 or more, for example 4",
        )
    _refuse_set(options, ("top_p", "min_p", "typical_p"), contrastive, "contrastive search draws nothing")
    if options.temperature not in (0, 1):
        raise _together("temperature", contrastive, "contrastive search draws nothing")
    _refuse_set(options, ("prompt_lookup",), contrastive, "each is a way of its own to the next token")
    _refuse_set(options, ("samples",), contrastive, "contrastive search has one result")


def check_draft(options: "SamplingOptions") -> None:
    """Raise a `UserError` if a draft model is of no use with these options."""
    if options.num_beams > 1:
        raise _together("draft", f"num_beams {options.num_beams}", "a draft guesses one text, not several")
    if options.penalty_alpha:
        raise _together("draft", "penalty_alpha", "contrastive search looks at several tokens anyway")
    if options.prompt_lookup:
        raise _together("draft", "prompt_lookup", "both guess the next tokens")


def _refuse_set(options: "SamplingOptions", names: tuple[str, ...], other: str, why: str) -> None:
    """Refuse those of `names` that are not left at their default."""
    for name in names:
        if getattr(options, name) != getattr(type(options), name):
            raise _together(name, other, why)


def _together(name: str, other: str, why: str) -> UserError:
    return UserError(f"does not go with {other}: {why}", where=name, fix="Leave out one of the two")


def _is_whole(value: object, least: int, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and least <= value <= most  # type: ignore[operator, arg-type]


def _are_texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) and text for text in value)


def _are_biases(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        _is_whole(token, 0) and (bias == -math.inf or _is_number(bias, -_LARGEST, _LARGEST))
        for token, bias in value.items()
    )


_TEXTS = "Give one or more strings, none of them empty"
_ADDED = f"Use a number from {-_LARGEST:g} to {_LARGEST:g}"
_YES_NO = "Use True or False"

_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_new_tokens": (lambda n: _is_whole(n, 1), "Ask for at least 1 token"),
    "min_new_tokens": (lambda n: _is_whole(n, 0), "Use a whole number, or 0 for any length"),
    "stop": (_are_texts, _TEXTS),
    "stop_tokens": (
        lambda ids: isinstance(ids, tuple) and all(_is_whole(token, 0) for token in ids),
        "Give one or more token ids",
    ),
    "forced_start": (lambda text: isinstance(text, str), "Give a string"),
    "forced_end": (lambda flag: isinstance(flag, bool), _YES_NO),
    "temperature": (
        lambda t: _is_number(t) and (t == 0 or t >= _COLDEST),
        f"Use 0 for greedy decoding, or a number of at least {_COLDEST:f}",
    ),
    "top_k": (lambda k: _is_whole(k, 0), "Use a whole number, or 0 to keep all tokens"),
    "top_p": (lambda p: _is_number(p, 0, 1) and p > 0, "It must be above 0, up to 1"),
    "min_p": (lambda p: _is_number(p, 0, 1), "It must be from 0 to 1"),
    "typical_p": (lambda p: _is_number(p, 0, 1) and p > 0, "It must be above 0, up to 1"),
    "seed": (lambda s: s is None or _is_whole(s, 0, MAX_SEED), f"Use a whole number from 0 to {MAX_SEED}"),
    "samples": (lambda n: _is_whole(n, 1, 100_000), "Ask for 1 to 100000"),
    "repetition_penalty": (lambda x: _is_number(x, 0.01, 100), "Use a number from 0.01 to 100; 1 for off"),
    "presence_penalty": (lambda x: _is_number(x, -_LARGEST, _LARGEST), _ADDED),
    "frequency_penalty": (lambda x: _is_number(x, -_LARGEST, _LARGEST), _ADDED),
    "no_repeat_ngram_size": (lambda n: _is_whole(n, 0), "Use a whole number, or 0 for off"),
    "bad_words": (_are_texts, _TEXTS),
    "logit_bias": (_are_biases, f"Give token ids and {_ADDED.removeprefix('Use a ')}s, or -inf"),
    "num_beams": (lambda n: _is_whole(n, 1, 1000), "Use a whole number from 1 to 1000"),
    "length_penalty": (lambda x: _is_number(x, -10, 10), "Use a number from -10 to 10"),
    "early_stopping": (lambda e: isinstance(e, bool) or e == "never", "Use True, False or never"),
    "penalty_alpha": (lambda a: _is_number(a, 0, 1), "It must be from 0 (off) to 1"),
    "prompt_lookup": (lambda n: _is_whole(n, 0), "Use a whole number, or 0 for off"),
    "draft_tokens": (lambda n: _is_whole(n, 1), "Ask for at least 1"),
    "logprobs": (lambda n: n is None or _is_whole(n, 0), "Use a whole number, or leave it out"),
    "echo": (lambda flag: isinstance(flag, bool), _YES_NO),
}
