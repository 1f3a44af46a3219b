"""What generation gives back: pieces of text as they become certain, and whole completions."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["length", "stop", "end_of_text", "forbidden"]


@dataclass(frozen=True)
class TokenLogprob:
    """How likely one token was by the model alone: before temperature, penalties and everything else."""

    token: int
    logprob: float | None
    """natural logarithm of its probability; None for the first token of a prompt, which nothing precedes"""
    top: tuple[tuple[int, float], ...] = ()
    """the likeliest tokens in its place with their log-probabilities, likeliest first"""


@dataclass(frozen=True)
class Completion:
    """What a model made of a prompt."""

    text: str
    """the continuation, without the prompt, ending before a stop string or the end of the text"""
    tokens: list[int]
    """every token drawn, those of the stop string or the token that ended the text included"""
    finish_reason: FinishReason
    """max_new_tokens were drawn; a stop string was completed or a stop token drawn; the model ended the text
    itself; or the options forbid every token"""
    seed: int
    """with this seed and the same options the prompt alone gives the same completion"""
    n_restarts: int
    """how often the context was full, so that only its last half was kept and encoded anew"""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """one for each of `tokens`, if asked for"""
    score: float | None = None
    """by what beam search ranked it: log-probability / length ** length_penalty"""


@dataclass(frozen=True)
class Piece:
    """What one more token adds to one completion."""

    index: int
    """which completion it belongs to, counted from 0: samples of the first prompt, then of the second, ..."""
    text: str
    """the text that has become certain, possibly none; a completion's pieces joined are its text"""
    completion: Completion | None = None
    """the whole, with its last piece"""
    n_tokens: int = 1
    """how many tokens it stands for: one, but for beam search's, or none when the options forbid every one"""
