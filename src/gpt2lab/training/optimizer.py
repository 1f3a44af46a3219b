"""AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest.

AdamW's decay touches matrices and embeddings only, never biases and LayerNorm gains (GPT-1 paper, section
4.1: "on all non bias or gain weights"). Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest
orthogonal matrix; it is meant for hidden matrices, so embeddings, biases and gains stay with AdamW.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gpt2lab.model.gpt import GPT
from gpt2lab.training.recipe import OptimizerConfig


class Optimizers:
    """One or two optimizers that step together, with state addressed by parameter names."""

    def __init__(self, model: GPT, config: OptimizerConfig) -> None:
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        matrices = [parameter for parameter in model.h.parameters() if parameter.dim() == 2]
        muon = matrices if config.name == "muon" else []
        rest = [parameter for parameter in self._names if all(parameter is not matrix for matrix in muon)]
        decayed = [parameter for parameter in rest if parameter.dim() >= 2]
        plain = [parameter for parameter in rest if parameter.dim() < 2]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [
                    {"params": decayed, "weight_decay": config.weight_decay},
                    {"params": plain, "weight_decay": 0.0},
                ],
                lr=config.learning_rate,
                betas=(config.beta1, config.beta2),
                eps=1e-8,
                fused=True,
            )
        ]
        if muon:
            self._optimizers.append(
                torch.optim.Muon(
                    muon,
                    lr=config.muon_learning_rate,
                    weight_decay=config.weight_decay,
                    momentum=config.muon_momentum,
                )
            )
        for group in self._groups():
            group["peak_lr"] = group["lr"]

    def _groups(self) -> Iterator[dict[str, Any]]:
        for optimizer in self._optimizers:
            yield from optimizer.param_groups

    def step(self, learning_rate_factor: float) -> None:
        """Update the weights with every learning rate at this share of its peak; forget the gradients."""
        for group in self._groups():
            group["lr"] = group["peak_lr"] * learning_rate_factor
        for optimizer in self._optimizers:
            optimizer.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """All state as flat tensors: ``"h.0.attn.c_attn.weight/exp_avg"`` and so on."""
        return {
            f"{self._names[parameter]}/{key}": value
            for optimizer in self._optimizers
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave, onto each parameter's device."""
        owners = {
            self._names[parameter]: (optimizer, parameter)
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for key, value in state.items():
            name, _, field = key.rpartition("/")
            optimizer, parameter = owners[name]
            optimizer.state[parameter][field] = value.to(parameter.device)
