"""Requests that share a model: they join as rows become free, each goes its own way, and leave when done."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch

from gpt2lab.generation.batch import Batch
from gpt2lab.generation.beams import Beams
from gpt2lab.generation.capacity import Capacity
from gpt2lab.generation.contrastive import Contrastive
from gpt2lab.generation.decoder import Backend
from gpt2lab.generation.logprobs import prompt_logprobs
from gpt2lab.generation.request import Request
from gpt2lab.generation.results import Piece
from gpt2lab.generation.speculation import Drafted, DraftModel, Speculation
from gpt2lab.generation.strategy import BatchOfRows, Drawing, Strategy


class Scheduler:
    """Continuous batching. `submit` at any time, then `step` again and again while `busy`.

    Args:
        backend: the model.
        capacity: how many rows of which length, planned for all requests that will come.
        vocab_size: of the tokenizer. A model's vocabulary may be padded for speed; ids that stand for no text
            are not drawn.
        draft: a smaller model with the same vocabulary; requests then use speculative decoding.
    """

    def __init__(
        self, backend: Backend, capacity: Capacity, vocab_size: int, draft: Backend | None = None
    ) -> None:
        self._batch: BatchOfRows = Batch(backend, capacity.n_rows, capacity.n_slots)
        self._draft = None
        if draft is not None:
            self._draft = DraftModel(draft, capacity.n_rows, capacity.n_draft_slots, vocab_size)
        self._n_rows = capacity.n_rows
        self._vocab_size = vocab_size
        self._waiting: deque[Request] = deque()
        self._running: list[Strategy] = []

    @property
    def busy(self) -> bool:
        """Whether any request is not done."""
        return bool(self._waiting or self._running)

    def submit(self, request: Request) -> None:
        """Add a request; it joins as soon as there are rows for it, in the order of submission."""
        assert request.n_rows <= self._n_rows, "the capacity was not planned for this request"
        self._waiting.append(request)

    def cancel(self, request: Request) -> None:
        """Forget a request, whatever has become of it."""
        if request in self._waiting:
            self._waiting.remove(request)
        for strategy in [strategy for strategy in self._running if strategy.request is request]:
            self._leave(strategy)

    def step(self) -> list[Piece]:
        """Let every running request go on by one pass of the model; the new pieces, in any order."""
        self._admit()
        if not self._running:
            return []
        for group in self._groups(type):
            group[0].prepare_all(group)
        logits_NV = self._batch.next_logits()[:, : self._vocab_size]
        pieces: list[Piece] = []
        for group in self._groups(lambda strategy: (type(strategy), id(strategy.request.sampler))):
            for strategy in group:
                self._rate_prompt(strategy)
            with _one_thread():
                pieces += group[0].advance_all(group, logits_NV)
        for strategy in [strategy for strategy in self._running if strategy.done]:
            self._leave(strategy)
        return pieces

    def _admit(self) -> None:
        n_free = self._n_rows - len(self._batch.rows)
        while self._waiting and self._waiting[0].n_rows <= n_free:
            strategy = self._start(self._waiting.popleft())
            self._running.append(strategy)
            n_free -= len(strategy.rows)
            for row in strategy.rows:
                self._batch.join(row)

    def _start(self, request: Request) -> Strategy:
        if self._draft is not None:
            drafted = Drafted(request, self._batch, self._draft)
            self._draft.join(drafted.draft_row)
            return drafted
        options = request.options
        if options.num_beams > 1:
            return Beams(request, self._batch)
        if options.penalty_alpha:
            return Contrastive(request, self._batch)
        return (Speculation if options.prompt_lookup else Drawing)(request, self._batch)

    def _leave(self, strategy: Strategy) -> None:
        self._running = [other for other in self._running if other is not strategy]
        for row in strategy.rows:
            self._batch.leave(row)
        if isinstance(strategy, Drafted) and self._draft is not None:
            self._draft.batch.leave(strategy.draft_row)

    def _groups(self, key: Callable[[Strategy], Hashable]) -> list[list[Strategy]]:
        """Running requests, those of the same key together."""
        groups: dict[Hashable, list[Strategy]] = {}
        for strategy in self._running:
            groups.setdefault(key(strategy), []).append(strategy)
        return list(groups.values())

    def _rate_prompt(self, strategy: Strategy) -> None:
        """Rate a prompt's own tokens when it has just been encoded, if that is wanted."""
        request, row = strategy.request, strategy.rows[0]
        if not request.wants_prompt_logprobs or request.prompt_logprobs:
            return
        assert row.hidden_TC is not None
        assert request.options.logprobs is not None
        request.prompt_logprobs = prompt_logprobs(
            self._batch.decoder,
            row.hidden_TC,
            request.prompt_tokens,
            self._vocab_size,
            request.options.logprobs,
        )
        for row in strategy.rows:
            row.keeps_hidden = strategy.needs_hidden


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch compute in this thread alone.

    Choosing a token is small work, and threads woken for it go on spinning on cores that the CPU engine's
    threads need for the next token: drawing from all of GPT-2's tokens, int8 on two cores wrote 100 tokens a
    second instead of 235.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
