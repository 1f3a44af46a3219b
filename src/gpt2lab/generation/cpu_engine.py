"""The CPU engine: a model's weights packed once for this processor, and decoders that read them (`kernels/`).

Precisions, in bits a weight with scales: ``bf16`` 16; ``int8`` 8.5 and ``int4`` 4.5, both in groups of 32
weights with one scale. In ``int4`` the embedding, which is also the output matrix, is kept in 8.5: it decides
between tokens that are nearly as likely, and errors in it are not averaged out by what follows. ``int4-fast``
reads a second output matrix, in 4.5, for every token, and of the one in 8.5 only the 64 panels of 16 tokens
among which the first finds the best.

A quantised model multiplies whole numbers when it decodes (inputs are rounded to 8 bits, with a scale for
each group of 32) and bfloat16 numbers when it reads a prompt of 64 tokens or more. Keys and values are
bfloat16.

A row's scores are the same bits whatever is fed with it, and however its tokens are divided among feeds;
prompts of 64 tokens or more apart, which come whole.
"""

import ctypes
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gpt2lab.base.errors import UserError
from gpt2lab.base.machine import available_cores, available_main_memory
from gpt2lab.generation.kernels import build
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT, Attention

Precision = Literal["bf16", "int8", "int4", "int4-fast"]

FORMATS: dict[Precision, tuple[int, int, bool]] = {
    "bf16": (0, 0, False),
    "int8": (1, 1, False),
    "int4": (2, 1, False),
    "int4-fast": (2, 1, True),
}
"""`Format` (kernels/matrix.h) of the blocks' matrices, of embedding and output matrix; whether screened"""
_PROMPT_TOKENS = 64  # fewer are read faster the way tokens are decoded: opening all weights takes its time
_ACTIVATIONS = ("gelu_new", "gelu", "relu", "silu")
_MATRIX, _VECTOR, _ATTENTION_SCALE = 0, 1, 2
_EMBEDDING, _HEAD, _BLOCK_MATRICES = 0, 1, ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
_POSITIONS, _FINAL_GAIN, _FINAL_BIAS = 0, 1, 2
_BLOCK_VECTORS = (
    "ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias",
    "attn.c_attn.bias", "attn.c_proj.bias", "mlp.c_fc.bias", "mlp.c_proj.bias",
)  # fmt: skip


class _Shape(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd")),
        *((name, ctypes.c_int32) for name in ("n_inner", "post_norm", "activation", "tied")),
        ("epsilon", ctypes.c_float),
    )


class _Feed(ctypes.Structure):
    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("n_sequences", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("tokens", "rows", "starts", "counts")),
        ("n_wanted", ctypes.c_int32),
        ("wanted", ctypes.c_void_p),
        ("hidden", ctypes.c_void_p),
        ("wide", ctypes.c_int32),
    )


def shape_of(config: ModelConfig) -> ctypes.Structure:
    """A model's shape as the library takes it."""
    return _Shape(
        config.vocab_size,
        config.context_length,
        config.n_layer,
        config.n_head,
        config.n_embd,
        config.inner_width,
        config.architecture == "gpt1",
        _ACTIVATIONS.index(config.activation),
        config.tie_word_embeddings,
        config.layer_norm_epsilon,
    )


def parts_of(model: GPT) -> Iterator[tuple[int, int, int, Tensor]]:
    """All weights as the library takes them: (kind, layer, number, the numbers); matrices are (out, in)."""
    yield _MATRIX, 0, _EMBEDDING, model.wte.weight
    yield _VECTOR, 0, _POSITIONS, model.wpe.weight
    if not model.config.tie_word_embeddings:
        yield _MATRIX, 0, _HEAD, model.lm_head.weight
    if model.config.architecture == "gpt2":
        yield _VECTOR, 0, _FINAL_GAIN, model.get_parameter("ln_f.weight")
        yield _VECTOR, 0, _FINAL_BIAS, model.get_parameter("ln_f.bias")
    for layer in range(model.config.n_layer):
        for number, name in enumerate(_BLOCK_MATRICES, _HEAD + 1):
            yield _MATRIX, layer, number, model.get_parameter(f"h.{layer}.{name}.weight")
        for number, name in enumerate(_BLOCK_VECTORS, _FINAL_BIAS + 1):
            yield _VECTOR, layer, number, model.get_parameter(f"h.{layer}.{name}")
        attention = model.get_submodule(f"h.{layer}.attn")
        assert isinstance(attention, Attention)
        yield _ATTENTION_SCALE, layer, 0, torch.tensor(attention.scale)


def _load_library(variant: build.Variant) -> ctypes.CDLL:
    path = build.library(variant)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:  # a damaged file, a disk from which nothing may be run
        raise build.BuildError(f"the CPU engine cannot be loaded: {error}") from error
    for name in ("engine_new", "cache_new"):
        getattr(library, name).restype = ctypes.c_void_p
    for name in ("engine_token_bytes", "cache_bytes"):
        getattr(library, name).restype = ctypes.c_int64
    return library


class CpuEngine:
    """A `Backend` (generation/decoder.py) of packed weights; the model it was made from may be let go.

    Args:
        model: any `GPT`, on any device.
        precision: of the weights.
        n_threads: all cores this process may use where not given.
        variant: the instructions to use; the best this processor has where not given.

    Raises:
        build.BuildError: no library for this processor can be had: compiled, or loaded.
        UserError: the weights do not fit the memory, or are not finite.
    """

    def __init__(
        self,
        model: GPT,
        precision: Precision = "bf16",
        n_threads: int | None = None,
        variant: build.Variant | None = None,
    ) -> None:
        if precision not in get_args(Precision):
            raise UserError(
                f"{precision!r} is no precision of the CPU engine",
                where="precision",
                fix=f"Use one of {', '.join(get_args(Precision))}",
            )
        self.config: ModelConfig = model.config
        self.precision = precision
        self.variant = variant or build.best_variant()
        self._library = _load_library(self.variant)
        engine = self._library.engine_new(
            ctypes.byref(shape_of(self.config)), *FORMATS[precision], n_threads or available_cores()
        )
        if not engine:
            raise _no_memory("its weights")
        self._engine = ctypes.c_void_p(engine)
        for part in parts_of(model):
            self._set(*part)
        self.token_bytes: int = self._library.engine_token_bytes(self._engine)
        """of weights, read for each token of one text"""

    def _set(self, kind: int, layer: int, number: int, weight: Tensor) -> None:
        on_cpu = weight.detach().to("cpu", torch.float32).contiguous()
        pointer = ctypes.c_void_p(on_cpu.data_ptr())
        is_bad = 0
        if kind == _MATRIX:
            is_bad = self._library.engine_set_matrix(self._engine, layer, number, pointer)
        elif kind == _VECTOR:
            count = ctypes.c_int64(on_cpu.numel())
            is_bad = self._library.engine_set_vector(self._engine, layer, number, pointer, count)
        else:
            self._library.engine_set_attention_scale(self._engine, layer, ctypes.c_float(on_cpu.item()))
        if is_bad:
            raise UserError(
                "the model's weights are not finite numbers",
                where="CPU engine",
                fix="They are damaged or the training diverged; use an earlier checkpoint",
            )

    def row_bytes(self, n_slots: int) -> int:
        """See `Backend.row_bytes`. Slots come in blocks of 32; keys and values are padded to whole panels."""
        width = self.config.head_width
        padded_width = -(-width // 32) * 32 + -(-width // 16) * 16
        return -(-n_slots // 32) * 32 * 2 * self.config.n_layer * self.config.n_head * padded_width

    def decoder(self, n_rows: int, n_slots: int) -> "CpuDecoder":
        """See `Backend.decoder`.

        Raises:
            UserError: the cache does not fit the memory.
        """
        if n_rows * self.row_bytes(n_slots) > available_main_memory():
            raise _no_memory(f"keys and values of {n_rows:,} x {n_slots:,} tokens")
        cache = self._library.cache_new(self._engine, n_rows, n_slots)
        if not cache:
            raise _no_memory(f"keys and values of {n_rows:,} x {n_slots:,} tokens")
        return CpuDecoder(self, ctypes.c_void_p(cache))

    def score(self, hidden_NC: Tensor) -> Tensor:
        """(N, C) float32 hidden states -> (N, V) scores."""
        hidden_NC = hidden_NC.contiguous()
        n = len(hidden_NC)
        logits_NV = torch.empty(n, self.config.vocab_size)
        if self._library.engine_score(
            self._engine, ctypes.c_void_p(hidden_NC.data_ptr()), n, ctypes.c_void_p(logits_NV.data_ptr())
        ):
            raise _no_memory(f"the scores of {n:,} tokens")
        return logits_NV

    def read_weights(self) -> None:
        """Read as much memory as a token needs and do nothing else: the least time a token can take."""
        self._library.engine_read_weights(self._engine)

    def __del__(self) -> None:
        if hasattr(self, "_engine"):
            self._library.engine_free(self._engine)


class CpuDecoder:
    """A `Decoder` (generation/decoder.py): the engine with a cache of its own."""

    def __init__(self, engine: CpuEngine, cache: ctypes.c_void_p) -> None:
        self._engine = engine
        self._cache = cache

    def feed(
        self, first_row: int, tokens: Sequence[Sequence[int]], starts: Sequence[int], n_last: Sequence[int]
    ) -> Tensor:
        """See `Decoder.feed`. Long rows from position 0 on are read as prompts, whatever is fed with them."""
        prompts: list[int] = []
        others: list[int] = []
        for b, (row, start) in enumerate(zip(tokens, starts, strict=True)):
            (prompts if start == 0 and len(row) >= _PROMPT_TOKENS else others).append(b)
        hidden: list[Tensor] = [torch.empty(0)] * len(tokens)
        for chosen, is_prompt in ((prompts, True), (others, False)):
            if chosen:
                kept = [n_last[b] for b in chosen]
                hidden_NC = self._feed(
                    [first_row + b for b in chosen],
                    [tokens[b] for b in chosen],
                    [starts[b] for b in chosen],
                    kept,
                    is_prompt,
                )
                if len(chosen) == len(tokens):
                    return hidden_NC
                for b, of_row in zip(chosen, torch.split(hidden_NC, kept), strict=True):
                    hidden[b] = of_row
        return torch.cat(hidden)

    def _feed(
        self,
        rows: Sequence[int],
        tokens: Sequence[Sequence[int]],
        starts: Sequence[int],
        n_last: Sequence[int],
        is_prompt: bool,
    ) -> Tensor:
        counts = np.array([len(row) for row in tokens], np.int32)
        flat = np.fromiter((token for row in tokens for token in row), np.int32, int(counts.sum()))
        row_numbers, begins = np.array(rows, np.int32), np.array(starts, np.int32)
        ends = counts.cumsum()
        wanted = np.concatenate(
            [np.arange(end - n, end) for end, n in zip(ends, n_last, strict=True)], dtype=np.int32
        )
        hidden_NC = torch.empty(len(wanted), self._engine.config.n_embd)
        call = _Feed(
            len(flat), len(tokens),
            flat.ctypes.data, row_numbers.ctypes.data, begins.ctypes.data, counts.ctypes.data,
            len(wanted), wanted.ctypes.data, hidden_NC.data_ptr(), is_prompt,
        )  # fmt: skip
        engine = self._engine
        if engine._library.engine_feed(engine._engine, self._cache, ctypes.byref(call)):
            raise _no_memory(f"a feed of {len(flat):,} tokens")
        return hidden_NC

    def logits(self, hidden_NC: Tensor) -> Tensor:
        """See `Decoder.logits`."""
        return self._engine.score(hidden_NC)

    def copy_row(self, source: int, target: int, start: int, stop: int) -> None:
        """See `Decoder.copy_row`."""
        self._engine._library.cache_copy(self._cache, source, target, start, stop)

    def __del__(self) -> None:
        if hasattr(self, "_cache"):
            self._engine._library.cache_free(self._cache)


def _no_memory(what: str) -> UserError:
    return UserError(
        f"there is not enough memory for {what}",
        where="CPU engine",
        fix="Use a lower precision, a smaller model, fewer rows or less context",
    )
