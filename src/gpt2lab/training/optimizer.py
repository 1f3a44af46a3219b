"""AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest.

AdamW's decay touches matrices and embeddings only, never biases and LayerNorm gains (GPT-1 paper, section
4.1: "on all non bias or gain weights"). Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest
orthogonal matrix; it is meant for hidden matrices, so embeddings, biases and gains stay with AdamW.

Queries, keys and values are three matrices to Muon, though the model keeps them as one (`c_attn`): they are
three maps, and one orthogonal matrix over all of them would tie their sizes together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gpt2lab.training.parallel import Placement
from gpt2lab.training.recipe import OptimizerConfig


@dataclass(frozen=True)
class _Part:
    """Some rows of a matrix of the model as a parameter of its own, in the same memory."""

    name: str
    parameter: nn.Parameter
    of: nn.Parameter
    rows: slice


def _hidden_matrices(named: dict[str, nn.Parameter]) -> list[_Part]:
    """The matrices inside the blocks, (out, in) each; `c_attn` (3C, C) as its queries, keys and values."""
    parts = []
    for name, matrix in named.items():
        if not _is_hidden_matrix(name, matrix):
            continue
        pieces = ("q", "k", "v") if name.endswith("c_attn.weight") else ("",)
        height = matrix.size(0) // len(pieces)
        for number, piece in enumerate(pieces):
            rows = slice(number * height, (number + 1) * height)
            part = nn.Parameter(matrix.detach()[rows])
            parts.append(_Part(f"{name}.{piece}".rstrip("."), part, matrix, rows))
    return parts


def _is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    return name.startswith("h.") and parameter.dim() == 2


class Optimizers:
    """One or two optimizers that step together, with state addressed by parameter names."""

    def __init__(self, placement: Placement, config: OptimizerConfig) -> None:
        muon = config.name == "muon"
        named = placement.parameters(_is_hidden_matrix if muon else lambda name, parameter: False)
        self._placement = placement
        self.updating = False  # what breaks off now leaves some weights with an update and others without
        self._parts = _hidden_matrices(named) if muon else []
        by_muon = {part.of for part in self._parts}
        rest = {name: parameter for name, parameter in named.items() if parameter not in by_muon}
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in rest.items()}
        self._names |= {part.parameter: part.name for part in self._parts}
        self._optimizers: list[torch.optim.Optimizer] = [_adamw(list(rest.values()), config)]
        if self._parts:
            self._optimizers.append(_muon([part.parameter for part in self._parts], config))
        for group in self._groups():
            group["peak_lr"] = group["lr"]

    def _groups(self) -> Iterator[dict[str, Any]]:
        for optimizer in self._optimizers:
            yield from optimizer.param_groups

    def step(self, learning_rate_factor: float) -> None:
        """Update the weights with every learning rate at this share of its peak; forget the gradients."""
        for group in self._groups():
            group["lr"] = group["peak_lr"] * learning_rate_factor
        self.updating = True
        self._placement.before_update()
        for part in self._parts:
            part.parameter.grad = None if part.of.grad is None else part.of.grad[part.rows]
        for optimizer in self._optimizers:
            optimizer.step()
        self._placement.after_update()
        self.updating = False
        self.zero_grad()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        for part in self._parts:
            part.of.grad = None
        self._placement.model.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """All state as flat tensors: ``"h.0.attn.c_attn.weight/exp_avg"`` and so on.

        Of a run of several processes it is in the first one, and all must ask for it together.
        """
        own = {
            f"{self._names[parameter]}/{key}": value
            for optimizer in self._optimizers
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
        }
        return self._placement.whole_state(own)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave, onto each parameter's device."""
        owners = {
            self._names[parameter]: (optimizer, parameter)
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for key, value in self._placement.own_state(state).items():
            name, _, field = key.rpartition("/")
            optimizer, parameter = owners[name]
            optimizer.state[parameter][field] = value.to(parameter.device)


def _adamw(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW for matrices and embeddings, which decay, and for biases and gains, which do not."""
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, eps=1e-8, fused=True)


def _muon(matrices: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Muon for the blocks' matrices, which all decay."""
    return torch.optim.Muon(
        matrices,
        lr=config.muon_learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.muon_momentum,
    )
