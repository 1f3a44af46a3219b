"""Text from prompts: one at a time or many, whole or as it grows.

    generate    prompts -> texts: the public function
    complete    prompts -> texts with their tokens, seed and the reason they ended
    stream      prompts -> pieces of text, as soon as they are certain

A completion depends on the model, its prompt, the options and its seed alone: not on what else is in the
batch, nor on the batch's size. With a seed s, completion i of a call uses seed s + i (modulo 2^32),
so it can be had again alone. PyTorch's global random state is neither read nor moved, and the model's weights
and training mode are left as they are, so a model in training can speak between two steps.

Scores of a row in a batch and alone differ by rounding (about 1e-6 in float32), so where two tokens are that
close, or a random number falls that close to the border between two, the texts can part; in float64 that is
a matter of 1e-15.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

from gpt2lab.base.errors import UserError
from gpt2lab.generation.capacity import Capacity
from gpt2lab.generation.decoder import Backend, backend_of
from gpt2lab.generation.option_rules import check_draft
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.generation.request import Request, requests_for
from gpt2lab.generation.results import Completion, FinishReason, Piece, TokenLogprob
from gpt2lab.generation.scheduler import Scheduler
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer

__all__ = ["Completion", "FinishReason", "Piece", "TokenLogprob", "complete", "generate", "stream"]

MAX_ROWS = 64  # rows decoded at once; more wait until one is free, so memory is bounded


def stream(
    model: GPT | Backend,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    options: SamplingOptions,
    *,
    draft: GPT | Backend | None = None,
    max_rows: int = MAX_ROWS,
    max_cache_bytes: int | None = None,
) -> Iterator[Piece]:
    """Continue every prompt, yielding a piece for every token drawn.

    Prompts advance together, so pieces of different completions alternate; those of one completion are in
    order, and its last one carries the `Completion`. Text that may turn out to be the beginning of a stop
    string is held back, and so is half a UTF-8 character. A completion of beam search comes in one piece at
    its end. An empty prompt starts a fresh document.

    Args:
        model: on any device, in any floating type, or an engine made for it.
        tokenizer: the model's.
        prompts: any number, of any lengths up to the model's context.
        options: the same for all of them; completion i uses `options.seed + i`.
        draft: a smaller model of the same vocabulary, for speculative decoding.
        max_rows: rows of the cache decoded at once, unless a single request takes more. A row holds the
            longest prompt and its new tokens, or context_length tokens if that is less: 2 x n_layer x n_embd
            numbers each. A request takes one row, or one a beam or candidate.
        max_cache_bytes: let fewer rows be decoded at once, if the cache would take more than this.

    Raises:
        UserError: a prompt does not fit the context, is empty although the model has no end-of-text token,
            or has tokens that the model does not know; an option asks for what the vocabulary cannot give; a
            single request does not fit into `max_cache_bytes`; the draft model does not go with the options
            or the model. Raised at the call, before the first piece.
    """
    backend = backend_of(model)
    drafting = None if draft is None else backend_of(draft)
    if drafting is not None:
        check_draft(options)
        _require_vocabulary(drafting, tokenizer)
    requests = list(requests_for(backend.config, tokenizer, prompts, options))
    if not requests:
        return iter(())
    capacity = Capacity.plan(requests, backend, drafting, max_rows, max_cache_bytes)
    return _run(backend, drafting, tokenizer.vocab_size, requests, capacity)


def complete(
    model: GPT | Backend,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    options: SamplingOptions,
    *,
    draft: GPT | Backend | None = None,
    max_cache_bytes: int | None = None,
) -> list[Completion]:
    """Continue every prompt: all `options.samples` of the first, then of the second, ... See `stream`."""
    pieces = stream(model, tokenizer, prompts, options, draft=draft, max_cache_bytes=max_cache_bytes)
    done = {piece.index: piece.completion for piece in pieces if piece.completion is not None}
    return [done[index] for index in range(len(prompts) * options.samples)]


@overload
def generate(
    model: GPT | Backend,
    tokenizer: Tokenizer,
    prompt: str,
    options: SamplingOptions | None = ...,
    *,
    samples: Literal[1] | None = ...,
    draft: GPT | Backend | None = ...,
    max_cache_bytes: int | None = ...,
    **changes: Any,
) -> str: ...
@overload
def generate(
    model: GPT | Backend,
    tokenizer: Tokenizer,
    prompt: str | Sequence[str],
    options: SamplingOptions | None = ...,
    *,
    samples: int | None = ...,
    draft: GPT | Backend | None = ...,
    max_cache_bytes: int | None = ...,
    **changes: Any,
) -> list[str]: ...
def generate(
    model: GPT | Backend,
    tokenizer: Tokenizer,
    prompt: str | Sequence[str],
    options: SamplingOptions | None = None,
    *,
    samples: int | None = None,
    draft: GPT | Backend | None = None,
    max_cache_bytes: int | None = None,
    **changes: Any,
) -> str | list[str]:
    """Continue a prompt, or several at once.

    >>> generate(model, tokenizer, "In a shocking finding,", max_new_tokens=64, top_k=40, seed=1)
    >>> generate(model, tokenizer, article + "\\nTL;DR:", num_beams=5, no_repeat_ngram_size=2,
    ...          early_stopping=True, max_new_tokens=25)

    Args:
        model: from `gpt2lab.load`, or any `GPT`, or an engine made for one.
        tokenizer: the model's.
        prompt: a text, or any number of texts of any lengths; "" starts a fresh document.
        options: how to draw and when to stop; `SamplingOptions` lists and explains every option.
        samples: how many continuations of each prompt; 1 unless `options` says otherwise.
        draft: a smaller model of the same vocabulary, for speculative decoding.
        max_cache_bytes: most bytes for keys and values; prompts wait for one another rather than exceed it.
        changes: any fields of `SamplingOptions`, instead of or on top of `options`.

    Returns:
        The continuation without the prompt. For several prompts or samples a list: all samples of the first
        prompt, then of the second, and so on.

    Raises:
        UserError: there is no such option, it is out of range, options do not go together, or a prompt does
            not fit the model (see `stream`).
    """
    options = SamplingOptions() if options is None else options
    options = options.changed(changes if samples is None else {**changes, "samples": samples})
    prompts = [prompt] if isinstance(prompt, str) else prompt
    done = complete(model, tokenizer, prompts, options, draft=draft, max_cache_bytes=max_cache_bytes)
    texts = [completion.text for completion in done]
    return texts[0] if isinstance(prompt, str) and options.samples == 1 else texts


def _require_vocabulary(draft: Backend, tokenizer: Tokenizer) -> None:
    if draft.config.vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"it knows {draft.config.vocab_size:,} tokens, the vocabulary has {tokenizer.vocab_size:,}",
            where="draft",
            fix="Use a draft model that was trained with the same vocabulary",
        )


def _run(
    backend: Backend,
    draft: Backend | None,
    vocab_size: int,
    requests: Sequence[Request],
    capacity: Capacity,
) -> Iterator[Piece]:
    """Decode until every request is done; see `stream`."""
    scheduler = Scheduler(backend, capacity, vocab_size, draft)
    for request in requests:
        scheduler.submit(request)
    while scheduler.busy:
        yield from scheduler.step()
