"""The choices a user has in drawing text from a model; light to import, so that `--help` is quick."""

import math
import secrets
from dataclasses import dataclass

from gpt2lab.base.errors import UserError

MAX_SEED = 2**32 - 1  # torch's CPU generator looks at the low 32 bits of a seed and no further
_COLDEST = 1e-6


@dataclass(frozen=True)
class SamplingOptions:
    """Which tokens are drawn, and when to stop. The defaults draw from the model's own distribution.

    Raises:
        UserError: a value is out of its range; the option is named.
    """

    max_new_tokens: int = 100
    """stop after this many new tokens"""
    temperature: float = 1.0
    """below 1 is safer, above 1 bolder; 0 is greedy: always the likeliest token"""
    top_k: int = 0
    """draw only from the k likeliest tokens; 0 for all (GPT-2's published samples used 40)"""
    top_p: float = 1.0
    """draw only from the fewest tokens whose probabilities reach p together; 1 for all"""
    seed: int | None = None
    """the same seed gives the same text; left out, a new one is chosen and shown"""
    stop: tuple[str, ...] = ()
    """end just before this text"""

    def __post_init__(self) -> None:
        _require(_is_whole(self.max_new_tokens, 1), "max_new_tokens", self, "Ask for at least 1 token")
        _require(
            _is_number(self.temperature) and (self.temperature == 0 or self.temperature >= _COLDEST),
            "temperature",
            self,
            f"Use 0 for greedy decoding, or a number of at least {_COLDEST:f}",
        )
        _require(_is_whole(self.top_k, 0), "top_k", self, "Use a whole number, or 0 to keep all tokens")
        _require(_is_number(self.top_p) and 0 < self.top_p <= 1, "top_p", self, "It must be above 0, up to 1")
        _require(
            self.seed is None or (_is_whole(self.seed, 0) and self.seed <= MAX_SEED),
            "seed",
            self,
            f"Use a whole number from 0 to {MAX_SEED}",
        )
        _require(
            isinstance(self.stop, tuple) and all(isinstance(text, str) and text for text in self.stop),
            "stop",
            self,
            "Give one or more strings, none of them empty",
        )


def fresh_seed() -> int:
    """A seed that nobody chose."""
    return secrets.randbelow(MAX_SEED + 1)


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require(valid: bool, name: str, options: SamplingOptions, fix: str) -> None:
    if not valid:
        raise UserError(f"{getattr(options, name)!r} is not possible", where=name, fix=fix)
