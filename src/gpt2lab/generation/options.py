"""The choices a user has in drawing text from a model; light to import, so that `--help` is quick.

`SamplingOptions` is all of them in one flat value. They are written down in groups, which the command line
shows under their headings. What values and combinations are possible stands in `option_rules`.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Literal

from gpt2lab.base.errors import UserError
from gpt2lab.generation.option_rules import MAX_SEED, check

__all__ = ["MAX_SEED", "SamplingOptions", "fresh_seed"]


@dataclass(frozen=True)
class Length:
    """How long a text gets, and where it ends."""

    max_new_tokens: int = 100
    """stop after this many new tokens"""
    min_new_tokens: int = 0
    """neither the end of the text nor a stop token comes before this many (a stop string still may)"""
    stop: tuple[str, ...] = ()
    """end just before this text"""
    stop_tokens: tuple[int, ...] = ()
    """ids that end the text as the end-of-text token does"""
    forced_start: str = ""
    """the continuation begins with this text (its tokens count as new ones)"""
    forced_end: bool = False
    """the last of max_new_tokens is the end-of-text token, whatever its score"""


@dataclass(frozen=True)
class Draw:
    """Which tokens are drawn. Applied in this order, after the penalties and the words below."""

    temperature: float = 1.0
    """below 1 is safer, above 1 bolder; 0 is greedy: always the likeliest token"""
    top_k: int = 0
    """draw only from the k likeliest tokens; 0 for all (GPT-2's published samples used 40)"""
    top_p: float = 1.0
    """draw only from the fewest tokens whose probabilities reach p together; 1 for all"""
    min_p: float = 0.0
    """draw only tokens at least this fraction as likely as the likeliest; 0 for all"""
    typical_p: float = 1.0
    """draw only from the tokens of most typical surprise that reach this probability together; 1 for all"""
    seed: int | None = None
    """the same seed gives the same text; left out, a new one is chosen and shown"""
    samples: int = 1
    """how many continuations (of beam search the best); the one numbered i is had again with seed SEED+i-1"""


@dataclass(frozen=True)
class Repeats:
    """Less of the same."""

    repetition_penalty: float = 1.0
    """divide the scores of tokens that the prompt or the text has (multiply those below 0); 1 for off"""
    presence_penalty: float = 0.0
    """subtract this from the score of every token that was drawn before (the prompt does not count)"""
    frequency_penalty: float = 0.0
    """subtract this as often as the token was drawn before (the prompt does not count)"""
    no_repeat_ngram_size: int = 0
    """never the same n tokens in a row twice, prompt included; 0 for off"""


@dataclass(frozen=True)
class Words:
    """Words and tokens wanted or not."""

    bad_words: tuple[str, ...] = ()
    """never write this, as it is or after a space (as the tokenizer would cut it)"""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """add a number to a token's score: id and number; -inf forbids it"""


@dataclass(frozen=True)
class Search:
    """Other ways to the next token. One at most; beams and contrastive search draw nothing."""

    num_beams: int = 1
    """keep this many likeliest texts (beam search)"""
    length_penalty: float = 1.0
    """beams are ranked by log-probability / length ** this: above 0 favours long texts"""
    early_stopping: bool | Literal["never"] = False
    """True: end when num_beams texts have ended; False: when a better one is unlikely; never: impossible"""
    penalty_alpha: float = 0.0
    """contrastive search among the top_k likeliest tokens: weight of being unlike the text so far, up to 1"""
    prompt_lookup: int = 0
    """guess this many tokens a step from where the last words stood before; the result is the same"""
    draft_tokens: int = 4
    """how many tokens a draft model guesses a step; the result is distributed the same"""


@dataclass(frozen=True)
class Report:
    """What is told besides the text."""

    logprobs: int | None = None
    """log-probabilities of the tokens by the model alone, and of this many likeliest ones beside each"""
    echo: bool = False
    """text, tokens and log-probabilities begin with the prompt's"""


@dataclass(frozen=True)
class SamplingOptions(Report, Search, Words, Repeats, Draw, Length):
    """Which tokens are drawn, and when to stop. The defaults draw from the model's own distribution.

    The fields stand in the groups above: `Length`, `Draw`, `Repeats`, `Words`, `Search`, `Report`.

    Raises:
        UserError: a value is out of its range, or two options do not go together; the option is named.
    """

    def __post_init__(self) -> None:
        check(self)

    def changed(self, changes: Mapping[str, Any]) -> "SamplingOptions":
        """The same with some fields changed, written freely: lists for tuples, or one string for several.

        Raises:
            UserError: there is no such option, or it is not possible.
        """
        names = [option.name for option in fields(self)]
        for name in changes:
            if name not in names:
                close = get_close_matches(name, names, n=1)
                fix = f"Did you mean {close[0]}" if close else f"There are {', '.join(names)}"
                raise UserError("there is no such option", where=name, fix=fix)
        return replace(self, **{name: _as_tuple(name, value) for name, value in changes.items()})


def fresh_seed() -> int:
    """A seed that nobody chose."""
    return secrets.randbelow(MAX_SEED + 1)


def _as_tuple(name: str, value: Any) -> Any:
    if name in ("stop", "bad_words") and isinstance(value, str):
        return (value,)
    if name in ("stop", "bad_words", "stop_tokens") and isinstance(value, list | tuple):
        return tuple(value)
    return value
