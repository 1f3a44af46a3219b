"""One prompt on its way to a completion: what it was asked with, and what has come of it so far."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gpt2lab.base.errors import UserError
from gpt2lab.generation.logprobs import token_logprobs
from gpt2lab.generation.options import MAX_SEED, SamplingOptions, fresh_seed
from gpt2lab.generation.results import Completion, FinishReason, Piece, TokenLogprob
from gpt2lab.generation.sampling import Sampler
from gpt2lab.generation.transcript import Transcript
from gpt2lab.model.config import ModelConfig
from gpt2lab.tokenizer import Tokenizer


@dataclass(kw_only=True, eq=False)
class Request:
    """A prompt, its options and its random numbers; requests with the same sampler are drawn for together."""

    index: int
    prompt: str
    prompt_tokens: list[int]
    sampler: Sampler
    seed: int
    tokenizer: Tokenizer
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    """filled when the prompt has been encoded, if they are wanted"""

    def __post_init__(self) -> None:
        self.options = self.sampler.options
        self.generator = torch.Generator().manual_seed(self.seed)

    @property
    def n_rows(self) -> int:
        """Rows of the cache that it takes: one a beam, or one a candidate of contrastive search."""
        if self.options.penalty_alpha:
            return min(self.options.top_k, self.tokenizer.vocab_size)
        return self.options.num_beams

    @property
    def n_slots(self) -> int:
        """Most tokens that a row of it ever holds, whatever the context's length."""
        last_is_fed = bool(self.options.penalty_alpha)  # as a candidate
        return len(self.prompt_tokens) + self.options.max_new_tokens - 1 + last_is_fed

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether the prompt's own tokens are to be rated."""
        return self.options.echo and self.options.logprobs is not None

    def new_text(self, number: int = 0) -> "GrowingText":
        """The text of the request's completion before its first token; of the one numbered `number`."""
        return GrowingText(self, self.index + number)


def requests_for(
    config: ModelConfig, tokenizer: Tokenizer, prompts: Sequence[str], options: SamplingOptions
) -> Iterator[Request]:
    """A request for each completion; beam search makes all of a prompt's completions in one.

    Args:
        config: the model's.
        tokenizer: the model's.
        prompts: any number; "" starts a fresh document.
        options: the same for all of them; completion i uses `options.seed + i`.

    Raises:
        UserError: a prompt does not fit the model, or an option asks for what the vocabulary cannot give.
    """
    first_seed = fresh_seed() if options.seed is None else options.seed
    sampler = Sampler(options, tokenizer)
    n_requests = 1 if options.num_beams > 1 else options.samples
    for number, prompt in enumerate(prompts):
        where = f"prompt {number + 1}" if len(prompts) > 1 else "prompt"
        tokens = _encode(prompt, tokenizer, config, where)
        for sample in range(n_requests):
            index = number * options.samples + sample
            yield Request(
                index=index,
                prompt=prompt,
                prompt_tokens=tokens,
                sampler=sampler,
                seed=(first_seed + index) % (MAX_SEED + 1),
                tokenizer=tokenizer,
            )


def _encode(prompt: str, tokenizer: Tokenizer, config: ModelConfig, where: str) -> list[int]:
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
    limit = config.context_length
    if len(tokens) > limit:
        raise UserError(
            f"{len(tokens):,} tokens do not fit the model's context of {limit:,}",
            where=where,
            fix=f"Shorten it by {len(tokens) - limit:,} tokens or more, for instance keep only its end",
        )
    if max(tokens) >= config.vocab_size:
        raise UserError(
            f"token {max(tokens):,} is not one of the model's {config.vocab_size:,}",
            where=where,
            fix="Use the tokenizer that the model was trained with",
        )
    return tokens


class GrowingText:
    """A request's completion as its tokens arrive."""

    def __init__(self, request: Request, index: int) -> None:
        self.drawn: list[int] = []
        self._request = request
        self._index = index
        self._logprobs: list[TokenLogprob] = []
        self._transcript = Transcript(request.tokenizer, request.prompt_tokens, request.options.stop)
        self._begun = False

    def rate(self, logits_NV: Tensor, tokens: list[int]) -> None:
        """Note how likely tokens are that will be taken next, if that is wanted."""
        if self._request.options.logprobs is not None:
            self._logprobs += token_logprobs(logits_NV, tokens, self._request.options.logprobs)

    def copy_ratings(self, logprobs: list[TokenLogprob]) -> None:
        """Take over what was noted elsewhere."""
        self._logprobs = logprobs

    def take(self, token: int, n_restarts: int) -> Piece:
        """Add a drawn token; the piece carries the completion if that ends it."""
        request = self._request
        self.drawn.append(token)
        ends = token in request.sampler.ends
        text = self._first_words() + ("" if ends else self._transcript.push(token))
        if ends:
            own_end = token == request.tokenizer.end_of_text
            return self._finish(text, "end_of_text" if own_end else "stop", n_restarts)
        if self._transcript.stopped:
            return self._finish(text, "stop", n_restarts)
        if len(self.drawn) == request.options.max_new_tokens:
            return self._finish(text, "length", n_restarts)
        return Piece(self._index, text)

    def give_up(self, n_restarts: int) -> Piece:
        """End it because the options forbid every token."""
        return replace(self._finish(self._first_words(), "forbidden", n_restarts), n_tokens=0)

    def _first_words(self) -> str:
        begun, self._begun = self._begun, True
        return self._request.prompt if self._request.options.echo and not begun else ""

    def _finish(self, text: str, reason: FinishReason, n_restarts: int) -> Piece:
        request = self._request
        text += self._transcript.finish()
        # Held-back text may complete a stop string only now (half a character became U+FFFD).
        reason = "stop" if self._transcript.stopped else reason
        whole, tokens = self._transcript.text, self.drawn
        logprobs = self._logprobs[: len(self.drawn)]
        if request.options.echo:
            whole, tokens = request.prompt + whole, request.prompt_tokens + tokens
            logprobs = request.prompt_logprobs + logprobs
        completion = Completion(
            whole,
            tokens,
            reason,
            request.seed,
            n_restarts,
            tuple(logprobs) if request.options.logprobs is not None else None,
        )
        return Piece(self._index, text, completion)
