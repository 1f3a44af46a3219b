"""Hugging Face's GPT-2 in PyTorch, and a plain PyTorch GPT-2 with `quantize_dynamic`."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from contract import Engine, Scores, Tokens
from torch import Tensor, nn
from torch.nn import functional as F


class HuggingFace(Engine):
    """A mode is a floating type: float32 or bfloat16. Eager, with its default attention and growing cache."""

    packages = ("transformers", "torch")

    def __init__(self, model: Path, work: Path, mode: str, n_threads: int) -> None:
        from transformers import DynamicCache, GPT2LMHeadModel
        from transformers.utils import logging

        super().__init__(model, work, mode, n_threads)
        logging.disable_progress_bar()
        torch.set_num_threads(n_threads)
        self.new_cache = DynamicCache
        self.model = GPT2LMHeadModel.from_pretrained(model, dtype=getattr(torch, mode)).eval()
        self.weight_bytes = self.n_weights() * getattr(torch, mode).itemsize

    def start(self, n_rows: int, n_slots: int) -> None:
        """See `Engine.start`."""
        self.cache = self.new_cache(config=self.model.config)

    def feed(self, tokens_BT: Tokens, every: bool = False) -> Scores:
        """See `Engine.feed`."""
        with torch.inference_mode():
            kept = 0 if every else 1
            answer = self.model(
                torch.from_numpy(tokens_BT), past_key_values=self.cache, use_cache=True, logits_to_keep=kept
            )
        scores_BTV: Scores = answer.logits.float().numpy()
        return scores_BTV if every else scores_BTV[:, -1]


class DynamicInt8(Engine):
    """`torch.ao.quantization.quantize_dynamic`: int8 weights with a scale a row or a matrix, int8 inputs.

    The embedding, of which a token reads one row, stays float32. Modes: per-row, per-matrix.
    """

    packages = ("torch",)

    def __init__(self, model: Path, work: Path, mode: str, n_threads: int) -> None:
        from torch.ao import quantization

        super().__init__(model, work, mode, n_threads)
        torch.set_num_threads(n_threads)
        warnings.simplefilter("ignore")
        plain = PlainGPT2(model).eval()
        per_row = quantization.per_channel_dynamic_qconfig
        settings = {nn.Linear: per_row if mode == "per-row" else quantization.default_dynamic_qconfig}
        self.model = quantization.quantize_dynamic(plain, settings, dtype=torch.qint8)
        width, inner = self.shape["n_embd"], self.shape.get("n_inner") or 4 * self.shape["n_embd"]
        n_rows = self.shape["vocab_size"] + self.shape["n_layer"] * (5 * width + inner)
        self.weight_bytes = self.n_weights() + (4 * n_rows if mode == "per-row" else 0)

    def start(self, n_rows: int, n_slots: int) -> None:
        """See `Engine.start`."""
        self.n_fed = 0
        shape = self.shape
        size = (shape["n_layer"], 2, n_rows, shape["n_head"], n_slots, shape["n_embd"] // shape["n_head"])
        self.cache = torch.zeros(size)

    def feed(self, tokens_BT: Tokens, every: bool = False) -> Scores:
        """See `Engine.feed`."""
        with torch.inference_mode():
            scores: Scores = self.model(torch.from_numpy(tokens_BT), self.n_fed, self.cache, every).numpy()
        self.n_fed += tokens_BT.shape[1]
        return scores


class PlainGPT2(nn.Module):
    """GPT-2 with a cache of fixed size and nothing else, in float32."""

    def __init__(self, model: Path) -> None:
        from safetensors.torch import load_file

        super().__init__()
        shape = json.loads((model / "config.json").read_text())
        tensors = load_file(model / "model.safetensors")
        weights = {name.removeprefix("transformer."): tensor.float() for name, tensor in tensors.items()}
        self.n_head, self.epsilon = shape["n_head"], shape["layer_norm_epsilon"]
        self.vectors = {name: w for name, w in weights.items() if ".ln_" in name or name.startswith("ln_f")}
        self.tokens, self.positions = weights["wte.weight"], weights["wpe.weight"]
        parts = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        self.blocks = nn.ModuleList(
            nn.ModuleList(linear(weights[f"h.{n}.{p}.weight"].T, weights[f"h.{n}.{p}.bias"]) for p in parts)
            for n in range(shape["n_layer"])
        )
        self.head = linear(self.tokens, None)

    def norm(self, x_BTC: Tensor, name: str) -> Tensor:
        """LayerNorm `name`."""
        gain, bias = self.vectors[f"{name}.weight"], self.vectors[f"{name}.bias"]
        return F.layer_norm(x_BTC, gain.shape, gain, bias, self.epsilon)

    def forward(self, tokens_BT: Tensor, start: int, cache: Tensor, every: bool) -> Tensor:
        """Scores after every token or the last; keys and values go into `cache` from slot `start` on."""
        B, T = tokens_BT.shape
        x_BTC = self.tokens[tokens_BT] + self.positions[start : start + T]
        for n, (attn, attn_proj, fc, mlp_proj) in enumerate(self.blocks):
            qkv = attn(self.norm(x_BTC, f"h.{n}.ln_1")).view(B, T, 3, self.n_head, -1)
            q_BHTD, k_BHTD, v_BHTD = qkv.permute(2, 0, 3, 1, 4)
            cache[n, 0, :, :, start : start + T], cache[n, 1, :, :, start : start + T] = k_BHTD, v_BHTD
            seen = None if T == 1 else torch.ones(T, start + T, dtype=torch.bool).tril(start)
            y_BHTD = F.scaled_dot_product_attention(q_BHTD, *cache[n, :, :, :, : start + T], attn_mask=seen)
            x_BTC = x_BTC + attn_proj(y_BHTD.transpose(1, 2).reshape(B, T, -1))
            x_BTC = x_BTC + mlp_proj(F.gelu(fc(self.norm(x_BTC, f"h.{n}.ln_2")), approximate="tanh"))
        normed_BTC = self.norm(x_BTC if every else x_BTC[:, -1], "ln_f")
        scores: Tensor = self.head(normed_BTC)
        return scores


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.size(1), weight.size(0), bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    return made


class Torch:
    """Either, by mode."""

    def __new__(cls, model: Path, work: Path, mode: str, n_threads: int) -> Any:  # noqa: D102
        kind = DynamicInt8 if mode.startswith("per-") else HuggingFace
        return kind(model, work, mode, n_threads)

    prepare = staticmethod(Engine.prepare)


ENGINE = Torch
