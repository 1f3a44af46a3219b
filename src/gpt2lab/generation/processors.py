"""Penalties and prohibitions: what changes a row's scores because of the tokens that came before.

A processor gets one row's scores, (V,) float64 on the CPU, and the row's history, and changes the scores in
place; minus infinity means that a token may not come. They apply in the order of `processors`, which is that
of transformers.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from gpt2lab.base.errors import UserError
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.tokenizer import Tokenizer


class History(Protocol):
    """What a row's next token may depend on."""

    @property
    def tokens(self) -> list[int]:
        """The prompt's tokens and those after it."""

    @property
    def n_prompt(self) -> int:
        """How many of them are the prompt's."""


Processor = Callable[[Tensor, History], None]


def add_bias(logits_V: Tensor, history: History, *, bias: Mapping[int, float]) -> None:
    """Add a number to the scores of some tokens."""
    logits_V[list(bias)] += torch.tensor(list(bias.values()), dtype=logits_V.dtype)


def penalise_repetition(logits_V: Tensor, history: History, *, penalty: float) -> None:
    """Make every token of the history less likely: Keskar et al. 2019 (CTRL), section 4.1.

    Scores above 0 are divided by the penalty; those below are multiplied by it, or they would gain.
    """
    seen = torch.unique(torch.tensor(history.tokens))
    scores = logits_V[seen]
    logits_V[seen] = torch.where(scores < 0, scores * penalty, scores / penalty)


def penalise_drawn(logits_V: Tensor, history: History, *, presence: float, frequency: float) -> None:
    """Subtract `presence` from each token drawn before, and `frequency` as often as it was.

    These are OpenAI's penalties; tokens of the prompt do not count, unlike in `penalise_repetition`.
    """
    drawn = torch.tensor(history.tokens[history.n_prompt :], dtype=torch.long)
    seen, counts = torch.unique(drawn, return_counts=True)
    logits_V[seen] -= presence + frequency * counts.to(logits_V.dtype)


def forbid_repeated_ngrams(logits_V: Tensor, history: History, *, size: int) -> None:
    """Forbid what would repeat `size` tokens in a row (Paulus et al. 2017, section 2.5, for trigrams)."""
    if len(history.tokens) < size:
        return
    ngrams_NS = torch.tensor(history.tokens).unfold(0, size, 1)
    begun = torch.tensor(history.tokens[len(history.tokens) - size + 1 :])
    repeats_N = (ngrams_NS[:, :-1] == begun).all(dim=1)
    logits_V[ngrams_NS[repeats_N, -1]] = -torch.inf


def forbid_sequences(logits_V: Tensor, history: History, *, sequences: Sequence[Sequence[int]]) -> None:
    """Forbid the last token of each sequence whose other tokens have just come."""
    for *begun, last in sequences:
        if not begun or history.tokens[-len(begun) :] == begun:
            logits_V[last] = -torch.inf


def forbid_end(logits_V: Tensor, history: History, *, ends: Sequence[int], n_tokens: int) -> None:
    """Forbid the tokens that end a text until `n_tokens` were drawn."""
    if len(history.tokens) - history.n_prompt < n_tokens:
        logits_V[list(ends)] = -torch.inf


def force(logits_V: Tensor, history: History, *, forced: Mapping[int, int]) -> None:
    """Leave only one possible token where `forced` names it: the n-th drawn, counted from 0."""
    token = forced.get(len(history.tokens) - history.n_prompt)
    if token is not None:
        logits_V.fill_(-torch.inf)
        logits_V[token] = 0.0


def processors(options: SamplingOptions, tokenizer: Tokenizer) -> list[Processor]:
    """The processors that `options` ask for, in the order in which they apply.

    Raises:
        UserError: an option asks for what this vocabulary or max_new_tokens cannot give.
    """
    chain: list[Processor] = []
    if options.logit_bias:
        _require_ids("logit_bias", options.logit_bias, tokenizer)
        chain.append(partial(add_bias, bias=dict(options.logit_bias)))
    if options.repetition_penalty != 1:
        chain.append(partial(penalise_repetition, penalty=options.repetition_penalty))
    if options.presence_penalty or options.frequency_penalty:
        presence, frequency = options.presence_penalty, options.frequency_penalty
        chain.append(partial(penalise_drawn, presence=presence, frequency=frequency))
    if options.no_repeat_ngram_size:
        chain.append(partial(forbid_repeated_ngrams, size=options.no_repeat_ngram_size))
    if options.bad_words:
        sequences = [tokens for word in options.bad_words for tokens in spellings(word, tokenizer)]
        chain.append(partial(forbid_sequences, sequences=sequences))
    ends = end_tokens(options, tokenizer)
    if options.min_new_tokens and ends:
        chain.append(partial(forbid_end, ends=sorted(ends), n_tokens=options.min_new_tokens))
    forced = _forced(options, tokenizer)
    if forced:
        chain.append(partial(force, forced=forced))
    return chain


def end_tokens(options: SamplingOptions, tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that end a text.

    Raises:
        UserError: a stop token is none of the vocabulary.
    """
    _require_ids("stop_tokens", options.stop_tokens, tokenizer)
    end_of_text = () if tokenizer.end_of_text is None else (tokenizer.end_of_text,)
    return frozenset((*options.stop_tokens, *end_of_text))


def spellings(word: str, tokenizer: Tokenizer) -> list[list[int]]:
    """The tokens of a word as it is, and after a space unless it brings its own.

    A model may still write it cut in another way; that it never does in practice is why this suffices.
    """
    texts = [word] if word[0].isspace() else [word, " " + word]
    found = [tokenizer.encode(text) for text in texts]
    return [tokens for index, tokens in enumerate(found) if tokens and tokens not in found[:index]]


def _forced(options: SamplingOptions, tokenizer: Tokenizer) -> dict[int, int]:
    """Which token must be drawn n-th, counted from 0."""
    start = tokenizer.encode(options.forced_start)
    room = options.max_new_tokens - options.forced_end
    if len(start) > room:
        raise UserError(
            f"its {len(start):,} tokens are more than the {room:,} that max_new_tokens leaves for them",
            where="forced_start",
            fix="Shorten it, or raise max_new_tokens",
        )
    forced = dict(enumerate(start))
    if options.forced_end:
        if tokenizer.end_of_text is None:
            raise UserError(
                "this model has no end-of-text token to force",
                where="forced_end",
                fix="Leave the option out",
            )
        forced[options.max_new_tokens - 1] = tokenizer.end_of_text
    return forced


def _require_ids(name: str, ids: Sequence[int] | Mapping[int, float], tokenizer: Tokenizer) -> None:
    for token in ids:
        if token >= tokenizer.vocab_size:
            size = tokenizer.vocab_size
            raise UserError(
                f"there is no token {token:,}: this vocabulary has {size:,}, numbered 0 to {size - 1:,}",
                where=name,
                fix="Look tokens up with `gpt2lab tokenizer encode`",
            )
