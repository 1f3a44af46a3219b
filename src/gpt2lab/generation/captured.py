"""The decode step of an NVIDIA GPU: captured once as a CUDA graph, then replayed.

A decoding step is some hundred kernels, each shorter than it takes Python to launch it. A graph launches
them all at once. It always reads and writes the same memory, so tokens and positions go into tensors of its
own, and attention reads a fixed number of slots: the next multiple of 256, of which later ones are masked.

There is a graph for each number of rows and of slots that was asked for twice: a size that is passed through
only once, as requests join and leave, is not worth a capture (some tenths of a second).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2lab.generation.decoder import TorchBackend, TorchDecoder
from gpt2lab.model.gpt import GPT

_SLOTS_AT_ONCE = 256

Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Makes of a function one that repeats it, and the tensor that each repetition fills with its result."""


def cuda_graph(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """A `Capture`. PyTorch wants a few runs on another stream first, for libraries to set themselves up."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()
    return graph.replay, result


class CapturedBackend(TorchBackend):
    """A `TorchBackend` whose one-token steps are captured; `model` is on an NVIDIA GPU."""

    def __init__(self, model: GPT, capture: Capture = cuda_graph) -> None:
        super().__init__(model)
        self._capture = capture

    def decoder(self, n_rows: int, n_slots: int) -> "CapturedDecoder":
        """See `Backend.decoder`."""
        return CapturedDecoder(self.model, n_rows, n_slots, self._capture)


@dataclass(frozen=True)
class _Step:
    """One captured step: fill `inputs_2B` (tokens, then positions), replay, read `hidden_B1C`."""

    inputs_2B: Tensor
    hidden_B1C: Tensor
    replay: Callable[[], None]


class CapturedDecoder(TorchDecoder):
    """A `TorchDecoder` that replays steps of one token a row."""

    def __init__(self, model: GPT, n_rows: int, n_slots: int, capture: Capture) -> None:
        super().__init__(model, n_rows, n_slots)
        self._n_slots = n_slots
        self._capture = capture
        self._steps: dict[tuple[int, int, int], _Step] = {}
        self._n_asked: Counter[tuple[int, int, int]] = Counter()

    def feed(
        self, first_row: int, tokens: Sequence[Sequence[int]], starts: Sequence[int], n_last: Sequence[int]
    ) -> Tensor:
        """See `Decoder.feed`."""
        if any(len(row) > 1 for row in tokens):
            return super().feed(first_row, tokens, starts, n_last)
        n_slots = min(self._n_slots, (max(starts) // _SLOTS_AT_ONCE + 1) * _SLOTS_AT_ONCE)
        size = first_row, len(tokens), n_slots
        self._n_asked[size] += 1
        if self._n_asked[size] == 1:
            return super().feed(first_row, tokens, starts, n_last)
        inputs_2B = torch.tensor([[token for (token,) in tokens], starts])
        with torch.inference_mode():
            if size not in self._steps:
                self._steps[size] = self._captured(first_row, n_slots, inputs_2B)
            step = self._steps[size]
            step.inputs_2B.copy_(inputs_2B)
            step.replay()
            return step.hidden_B1C[:, 0].clone()

    def _captured(self, first_row: int, n_slots: int, inputs_2B: Tensor) -> _Step:
        # Capturing runs the step, so it needs inputs that do no harm: those it is about to be run with.
        own_2B = inputs_2B.to(self._model.wte.weight.device, copy=True)
        tokens_B1, positions_B1 = own_2B[0, :, None], own_2B[1, :, None]
        replay, hidden_B1C = self._capture(lambda: self._hidden(first_row, n_slots, tokens_B1, positions_B1))
        return _Step(own_2B, hidden_B1C, replay)
