"""Text from prompts: one at a time or many, whole or as it grows.

    generate    prompts -> texts: the public function
    complete    prompts -> texts with their tokens, seed and the reason they ended
    stream      prompts -> pieces of text, as soon as they are certain

A completion depends on the model, its prompt, the options and its seed alone: not on what else is in the
batch, nor on the batch's size. With a seed s, prompt i of a call uses seed s + i (modulo 2^32),
so it can be had again alone. PyTorch's global random state is neither read nor moved, and the model's weights
and training mode are left as they are, so a model in training can speak between two steps.

Scores of a row in a batch and alone differ by rounding (about 1e-6 in float32), so where two tokens are that
close, or a random number falls that close to the border between two, the texts can part; in float64 that is
a matter of 1e-15.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, overload

import torch

from gpt2lab.base.errors import UserError
from gpt2lab.generation.batch import Batch, Row
from gpt2lab.generation.options import MAX_SEED, SamplingOptions, fresh_seed
from gpt2lab.generation.sampling import choose
from gpt2lab.generation.transcript import Transcript
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer

FinishReason = Literal["length", "stop", "end_of_text"]

MAX_ROWS = 64  # prompts decoded at once; more wait until a row is free, so memory is bounded


@dataclass(frozen=True)
class Completion:
    """What a model made of a prompt."""

    text: str
    """the continuation, without the prompt, ending before a stop string or the end of the text"""
    tokens: list[int]
    """every token drawn, those of the stop string or the end-of-text token included"""
    finish_reason: FinishReason
    """max_new_tokens were drawn, a stop string was completed, or the model ended the text itself"""
    seed: int
    """with this seed and the same options the prompt alone gives the same completion"""
    n_restarts: int
    """how often the context was full, so that only its last half was kept and encoded anew"""


@dataclass(frozen=True)
class Piece:
    """What one more token adds to one prompt's completion."""

    index: int
    """which prompt it belongs to, counted from 0"""
    text: str
    """the text that has become certain, possibly none; a completion's pieces joined are its text"""
    completion: Completion | None = None
    """the whole, with a prompt's last piece"""


@dataclass(kw_only=True)
class _Request(Row):
    """A row of the batch and what becomes of its tokens."""

    index: int
    seed: int
    generator: torch.Generator
    transcript: Transcript
    drawn: list[int] = field(default_factory=list)

    def take(self, token: int, max_new_tokens: int, end_of_text: int | None) -> Piece:
        """Add a drawn token; the piece carries the completion if that ends it."""
        self.tokens.append(token)
        self.drawn.append(token)
        text = "" if token == end_of_text else self.transcript.push(token)
        if token != end_of_text and not self.transcript.stopped and len(self.drawn) < max_new_tokens:
            return Piece(self.index, text)
        text += self.transcript.finish()
        reason: FinishReason = "end_of_text" if token == end_of_text else "length"
        if self.transcript.stopped:
            reason = "stop"
        whole = Completion(self.transcript.text, self.drawn, reason, self.seed, self.n_restarts)
        return Piece(self.index, text, whole)


def stream(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    options: SamplingOptions,
    *,
    max_rows: int = MAX_ROWS,
) -> Iterator[Piece]:
    """Continue every prompt, yielding a piece for every token drawn.

    Prompts advance together, one token a step, so pieces of different prompts alternate; those of one prompt
    are in order, and its last one carries the `Completion`. Text that may turn out to be the beginning of a
    stop string is held back, and so is half a UTF-8 character. An empty prompt starts a fresh document.

    Args:
        model: on any device, in any floating type.
        tokenizer: the model's.
        prompts: any number, of any lengths up to the model's context.
        options: the same for all of them; prompt i uses `options.seed + i`.
        max_rows: prompts decoded at once. The cache holds at most this many rows of the longest prompt and
            its new tokens, or of context_length tokens if that is less: 2 x n_layer x n_embd numbers each.

    Raises:
        UserError: a prompt does not fit the context, is empty although the model has no end-of-text token,
            or has tokens that the model does not know. Raised at the call, before the first piece.
    """
    first_seed = fresh_seed() if options.seed is None else options.seed
    requests = []
    for index, prompt in enumerate(prompts):
        tokens = _encode(prompt, tokenizer, model, f"prompt {index + 1}" if len(prompts) > 1 else "prompt")
        seed = (first_seed + index) % (MAX_SEED + 1)
        requests.append(
            _Request(
                tokens=tokens,
                index=index,
                seed=seed,
                generator=torch.Generator().manual_seed(seed),
                transcript=Transcript(tokenizer, tokens, options.stop),
            )
        )
    return _run(model, tokenizer, requests, options, max_rows)


def complete(
    model: GPT, tokenizer: Tokenizer, prompts: Sequence[str], options: SamplingOptions
) -> list[Completion]:
    """Continue every prompt; the completions are in the prompts' order. See `stream`."""
    pieces = stream(model, tokenizer, prompts, options)
    done = {piece.index: piece.completion for piece in pieces if piece.completion is not None}
    return [done[index] for index in range(len(prompts))]


@overload
def generate(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too; the first overload wins
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_new_tokens: int = ...,
    temperature: float = ...,
    top_k: int = ...,
    top_p: float = ...,
    seed: int | None = ...,
    stop: str | Sequence[str] = ...,
) -> str: ...
@overload
def generate(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: Sequence[str],
    *,
    max_new_tokens: int = ...,
    temperature: float = ...,
    top_k: int = ...,
    top_p: float = ...,
    seed: int | None = ...,
    stop: str | Sequence[str] = ...,
) -> list[str]: ...
def generate(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str | Sequence[str],
    *,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int | None = None,
    stop: str | Sequence[str] = (),
) -> str | list[str]:
    """Continue a prompt, or several at once.

    >>> generate(model, tokenizer, "In a shocking finding,", max_new_tokens=64, top_k=40, seed=1)

    Args:
        model: from `gpt2lab.load`, or any `GPT`.
        tokenizer: the model's.
        prompt: a text, or any number of texts of any lengths; "" starts a fresh document.
        max_new_tokens: stop after this many.
        temperature: below 1 is safer, above 1 bolder; 0 always takes the likeliest token (greedy).
        top_k: draw only from the k likeliest tokens; 0 for all.
        top_p: draw only from the fewest tokens whose probabilities reach p together; 1 for all.
        seed: the same seed gives the same text; prompt i of several uses `seed + i`. None: a fresh one.
        stop: end just before this text, or any of these.

    Returns:
        The continuation without the prompt; for several prompts a list, in their order.

    Raises:
        UserError: an option is out of range, or a prompt does not fit the model (see `stream`).
    """
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    options = SamplingOptions(max_new_tokens, temperature, top_k, top_p, seed, stops)
    if isinstance(prompt, str):
        return complete(model, tokenizer, [prompt], options)[0].text
    return [completion.text for completion in complete(model, tokenizer, prompt, options)]


def _encode(prompt: str, tokenizer: Tokenizer, model: GPT, where: str) -> list[int]:
    """The prompt's tokens; those of an empty one are the end-of-text token, which documents begin with."""
    tokens: list[int] = tokenizer.encode(prompt)
    if not tokens:
        if tokenizer.end_of_text is None:
            raise UserError(
                "there is nothing to continue: the prompt is empty and this model has no end-of-text token",
                where=where,
                fix="Give it at least a word",
            )
        tokens = [tokenizer.end_of_text]
    limit = model.config.context_length
    if len(tokens) > limit:
        raise UserError(
            f"{len(tokens):,} tokens do not fit the model's context of {limit:,}",
            where=where,
            fix=f"Shorten it by {len(tokens) - limit:,} tokens or more, for instance keep only its end",
        )
    if max(tokens) >= model.config.vocab_size:
        raise UserError(
            f"token {max(tokens):,} is not one of the model's {model.config.vocab_size:,}",
            where=where,
            fix="Use the tokenizer that the model was trained with",
        )
    return tokens


def _run(
    model: GPT, tokenizer: Tokenizer, requests: list[_Request], options: SamplingOptions, max_rows: int
) -> Iterator[Piece]:
    """Decode until every request is done; see `stream`."""
    if not requests:
        return
    longest = max(len(request.tokens) for request in requests)
    n_slots = min(model.config.context_length, longest + options.max_new_tokens - 1)  # the last is not fed
    batch = Batch[_Request](model, min(max_rows, len(requests)), n_slots)
    waiting = deque(requests)
    while batch.rows or waiting:
        while waiting and len(batch.rows) < max_rows:
            batch.join(waiting.popleft())
        # A model's vocabulary may be padded for speed; ids that stand for no text are not drawn.
        logits_BV = batch.next_logits()[:, : tokenizer.vocab_size]
        tokens = choose(logits_BV, options, [row.generator for row in batch.rows])
        pieces = [
            row.take(token, options.max_new_tokens, tokenizer.end_of_text)
            for row, token in zip(batch.rows, tokens, strict=True)
        ]
        for index in reversed(range(len(pieces))):
            if pieces[index].completion is not None:
                batch.leave(index)
        yield from pieces
