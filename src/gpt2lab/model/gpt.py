"""GPT-1, GPT-2 and small GPT-3 in one file: a decoder-only transformer with learned positions.

Axes in names: B batch, T time (tokens), C channels (n_embd), H heads, D head width, S cache slots,
V vocabulary, L layers.

The two architectures differ in where LayerNorm stands, and in nothing else:

    GPT-1 (post-LN)   x = ln_1(x + attn(x));  x = ln_2(x + mlp(x))
    GPT-2 (pre-LN)    x = x + attn(ln_1(x));  x = x + mlp(ln_2(x));  and ln_f(x) after the last block

Parameter names are those of the published checkpoints (`wte`, `wpe`, `h.0.attn.c_attn`, ...). Matrices are
(out, in), PyTorch's way; the published files hold (in, out) and are transposed when read and written.

Initialisation is the papers': normal(0, 0.02), biases 0, and in GPT-2 the matrices that write into the
residual stream are scaled by 1/sqrt(number of residual layers) = 1/sqrt(2 n_layer) (GPT-2 paper, section
2.3). OpenAI's released TensorFlow code, which is for inference, starts all projections at 0.02 without that
scaling, and `wpe` at 0.01; we follow the paper. GPT-1 scales nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2lab.model.config import Activation, ModelConfig


@dataclass
class KVCache:
    """Keys and values of the tokens seen so far, so that each new token costs one token's work.

    Slot s of row b holds the token at position s of sequence b; rows may be filled to different lengths.
    """

    keys_LBHSD: Tensor
    values_LBHSD: Tensor

    @classmethod
    def allocate(
        cls, config: ModelConfig, n_rows: int, n_slots: int, *, device: torch.device, dtype: torch.dtype
    ) -> Self:
        """Room for `n_rows` sequences of `n_slots` tokens: 2 x n_layer x n_embd numbers a token."""
        shape = (config.n_layer, n_rows, config.n_head, n_slots, config.head_width)
        return cls(*(torch.zeros(shape, device=device, dtype=dtype) for _ in range(2)))

    def part(self, rows: slice, n_slots: int) -> "KVCache":
        """The same memory, restricted to some rows and their first slots: a model reads all it is given."""
        return KVCache(self.keys_LBHSD[:, rows, :, :n_slots], self.values_LBHSD[:, rows, :, :n_slots])


@dataclass
class _CacheView:
    """What one attention layer needs of the cache: its own slots, where to write, and what may be read."""

    keys_BHSD: Tensor
    values_BHSD: Tensor
    positions_BT: Tensor
    visible_B1TS: Tensor

    def extend(self, k_BHTD: Tensor, v_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values; return those of every slot."""
        rows_B1 = torch.arange(k_BHTD.size(0), device=k_BHTD.device)[:, None]
        self.keys_BHSD[rows_B1, :, self.positions_BT] = k_BHTD.transpose(1, 2).to(self.keys_BHSD.dtype)
        self.values_BHSD[rows_B1, :, self.positions_BT] = v_BHTD.transpose(1, 2).to(self.values_BHSD.dtype)
        return self.keys_BHSD.to(k_BHTD.dtype), self.values_BHSD.to(v_BHTD.dtype)


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.attn_pdrop
        self.scale = 1 / math.sqrt(config.head_width) if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer + 1
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)  # queries, keys and values in one product
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x_BTC: Tensor, cache: _CacheView | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        qkv_BTE = self.c_attn(x_BTC)
        y_BTC = self.attend(qkv_BTE) if cache is None else self._attend_with(cache, qkv_BTE)
        out_BTC: Tensor = self.resid_dropout(self.c_proj(y_BTC))
        return out_BTC

    def attend(self, qkv_BTE: Tensor) -> Tensor:
        """(B, T, 3C) -> (B, T, C): a token sees those up to itself. Training on a CPU replaces it."""
        dropout = self.dropout if self.training else 0.0
        q_BHTD, k_BHTD, v_BHTD = self._heads(qkv_BTE)
        return _together(
            F.scaled_dot_product_attention(
                q_BHTD, k_BHTD, v_BHTD, is_causal=True, dropout_p=dropout, scale=self.scale
            )
        )

    def _attend_with(self, cache: _CacheView, qkv_BTE: Tensor) -> Tensor:
        """The same for tokens that come after those in the cache, to which they are added."""
        q_BHTD, k_BHTD, v_BHTD = self._heads(qkv_BTE)
        k_BHSD, v_BHSD = cache.extend(k_BHTD, v_BHTD)
        return _together(
            F.scaled_dot_product_attention(
                q_BHTD, k_BHSD, v_BHSD, attn_mask=cache.visible_B1TS, scale=self.scale
            )
        )

    def _heads(self, qkv_BTE: Tensor) -> tuple[Tensor, ...]:
        """(B, T, 3C) -> queries, keys and values, each (B, H, T, D)."""
        B, T, E = qkv_BTE.shape
        width = E // 3 // self.n_head
        return tuple(part.view(B, T, self.n_head, width).transpose(1, 2) for part in qkv_BTE.chunk(3, dim=2))


def _together(y_BHTD: Tensor) -> Tensor:
    """Heads side by side: (B, H, T, D) -> (B, T, C)."""
    return y_BHTD.transpose(1, 2).flatten(2)


def gelu_new(x: Tensor) -> Tensor:
    """GELU by its approximation with tanh (Hendrycks and Gimpel 2016, section 2)."""
    return F.gelu(x, approximate="tanh")


_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu_new": gelu_new,
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
}


class MLP(nn.Module):
    """The position-wise feed-forward layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activate = _ACTIVATIONS[config.activation]  # training on a CPU has a kernel of its own for it
        self.c_fc = nn.Linear(config.n_embd, config.inner_width)
        self.c_proj = nn.Linear(config.inner_width, config.n_embd)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        out_BTC: Tensor = self.resid_dropout(self.c_proj(self.activate(self.c_fc(x_BTC))))
        return out_BTC


class Block(nn.Module):
    """Attention, then the feed-forward layer, each with a residual connection and a LayerNorm."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.pre_norm = config.architecture == "gpt2"
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x_BTC: Tensor, cache: _CacheView | None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        if self.pre_norm:
            x_BTC = x_BTC + self.attn(self.ln_1(x_BTC), cache)
            x_BTC = x_BTC + self.mlp(self.ln_2(x_BTC))
        else:
            x_BTC = self.ln_1(x_BTC + self.attn(x_BTC, cache))
            x_BTC = self.ln_2(x_BTC + self.mlp(x_BTC))
        return x_BTC


def _embedding(n: int, width: int) -> nn.Embedding:
    """(n, width) zeros, for `initialise` or a file to fill: drawing numbers to throw away takes 0.7 s."""
    return nn.Embedding(n, width, _weight=torch.zeros(n, width))


class GPT(nn.Module):
    """A language model: token ids in, a score for every possible next token out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = _embedding(config.vocab_size, config.n_embd)
        self.wpe = _embedding(config.context_length, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        is_gpt2 = config.architecture == "gpt2"
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon) if is_gpt2 else nn.Identity()
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.wte.weight

    def initialise(self, generator: torch.Generator) -> Self:
        """Draw fresh weights as the papers say (see the module's docstring); returns the model itself."""
        residual_std = 0.02
        if self.config.architecture == "gpt2":
            residual_std /= math.sqrt(2 * self.config.n_layer)
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                std = residual_std if name.endswith("c_proj.weight") else 0.02
                nn.init.normal_(parameter, std=std, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.ones_(parameter)
        return self

    def forward(
        self, tokens_BT: Tensor, cache: KVCache | None = None, positions_BT: Tensor | None = None
    ) -> Tensor:
        """Scores of the next token after each token.

        Args:
            tokens_BT: (B, T) ids, each in [0, vocab_size), at most context_length of them a row.
            cache: keys and values of earlier tokens; the new ones are added to it.
            positions_BT: (B, T) place of each token in its row; needed with a cache, 0..T-1 without.

        Returns:
            (B, T, V) logits.
        """
        logits_BTV: Tensor = self.lm_head(self.hidden(tokens_BT, cache, positions_BT))
        return logits_BTV

    def hidden(
        self, tokens_BT: Tensor, cache: KVCache | None = None, positions_BT: Tensor | None = None
    ) -> Tensor:
        """What `forward` multiplies with the output matrix: (B, T) ids -> (B, T, C).

        Raises:
            ValueError: a row is longer than the context, or only one of `cache` and `positions_BT` is given.
        """
        if (cache is None) != (positions_BT is None):
            raise ValueError("a cache and the tokens' positions are given together")
        T = tokens_BT.size(1)
        if T > self.config.context_length:
            raise ValueError(f"{T} tokens do not fit the context of {self.config.context_length}")
        if positions_BT is None:
            x_BTC = self.wte(tokens_BT) + self.wpe.weight[:T]
        else:
            x_BTC = self.wte(tokens_BT) + self.wpe(positions_BT)
        x_BTC = self.drop(x_BTC)
        visible_B1TS = None
        if cache is not None and positions_BT is not None:
            visible_B1TS = _visible(positions_BT, cache.keys_LBHSD.size(3))
        for layer, block in enumerate(self.h):
            view = None
            if cache is not None and positions_BT is not None and visible_B1TS is not None:
                keys_BHSD, values_BHSD = cache.keys_LBHSD[layer], cache.values_LBHSD[layer]
                view = _CacheView(keys_BHSD, values_BHSD, positions_BT, visible_B1TS)
            x_BTC = block(x_BTC, view)
        normed_BTC: Tensor = self.ln_f(x_BTC)
        return normed_BTC


def _visible(positions_BT: Tensor, n_slots: int) -> Tensor:
    """(B, 1, T, S) booleans: slot s may be read by the token at position p when s <= p."""
    slots_S = torch.arange(n_slots, device=positions_BT.device)
    return (slots_S <= positions_BT[:, :, None])[:, None]
