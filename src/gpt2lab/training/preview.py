"""What a recipe amounts to, before anything is started: `gpt2lab train RECIPE --dry-run`."""

import dataclasses

import tomli_w

from gpt2lab.base.device import bf16_is_fast, device_label, pick_device
from gpt2lab.base.progress import format_bytes
from gpt2lab.base.toml_table import as_table
from gpt2lab.model.config import count_parameters
from gpt2lab.training.recipe import Recipe

# Bytes a parameter: float32 weights and gradients; AdamW keeps two more numbers, Muon one.
_WEIGHTS_AND_GRADIENTS, _STATE = 8, {"adamw": 8, "muon": 4}


def preview(recipe: Recipe) -> str:
    """The recipe with every field, then its size, tokens and memory, in plain text."""
    device = pick_device(recipe.device)
    n_parameters = count_parameters(recipe.model)
    state = n_parameters * (_WEIGHTS_AND_GRADIENTS + _STATE[recipe.optimizer.name])
    precision = recipe.precision
    if precision == "auto":
        precision = "bfloat16" if bf16_is_fast(device) else "float32"
    windows, _ = recipe.batch_sizes.span(recipe.schedule.steps)
    tokens = windows * recipe.model.context_length
    rows = {
        "parameters": f"{n_parameters:,}",
        "tokens": f"{tokens:,} ({tokens / n_parameters:.1f} a parameter)",
        "a step": f"{recipe.batch_sequences:,} sequences of {recipe.model.context_length:,} tokens",
        "device": f"{device_label(device)}, {precision}",
        "weights, gradients, optimizer": f"{format_bytes(state)} (activations come on top)",
        "a checkpoint on disk": format_bytes(state - 4 * n_parameters),
    }
    table = tomli_w.dumps(as_table(dataclasses.replace(recipe, summary="")))
    facts = "\n".join(f"# {name + ':':<31}{value}" for name, value in rows.items())
    summary = "\n".join(f"# {line}" for line in recipe.summary.strip().splitlines())
    return f"{summary}\n#\n{facts}\n\n{table}"
