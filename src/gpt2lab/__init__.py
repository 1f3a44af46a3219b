"""gpt2lab: the whole GPT-2 system, from raw text to a trained, measured, talking language model.

>>> import gpt2lab
>>> model, tokenizer = gpt2lab.load("gpt2")                     # published name, hub id, or directory
>>> gpt2lab.generate(model, tokenizer, "In a shocking finding,", max_new_tokens=64, top_k=40, seed=1)

Everything here is loaded on first use, so that ``import gpt2lab`` itself costs next to nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "ModelConfig": "gpt2lab.model.config",
    "count_parameters": "gpt2lab.model.config",
    "GPT": "gpt2lab.model.gpt",
    "load": "gpt2lab.checkpoint.huggingface",
    "save": "gpt2lab.checkpoint.huggingface",
    "load_tokenizer": "gpt2lab.tokenizer",
    "generate": "gpt2lab.generation.engine",
    "SamplingOptions": "gpt2lab.generation.options",
    "CpuEngine": "gpt2lab.generation.cpu_engine",
    "UserError": "gpt2lab.base.errors",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gpt2lab' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
