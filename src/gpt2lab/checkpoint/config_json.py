"""config.json as `transformers` writes and reads it, from and to a `ModelConfig`.

Every option of its `GPT2Config` and `OpenAIGPTConfig` that changes what a language model computes is either
carried over or refused; absent ones have the value they have there (dropout 0.1, for example). Options that
change only rounding (`reorder_and_upcast_attn`) or only heads for other tasks (`summary_*`) are left alone.
"""

from pathlib import Path
from typing import Any

import torch

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import read_json
from gpt2lab.model.config import Activation, Architecture, ModelConfig

Json = dict[str, Any]

_ARCHITECTURES: dict[str, Architecture] = {"gpt2": "gpt2", "openai-gpt": "gpt1"}

# Classes whose tensors are those of the plain language model. Others carry heads for other tasks.
_CLASSES = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Model"),
    "gpt1": ("OpenAIGPTLMHeadModel", "OpenAIGPTModel"),
}

# Several names there stand for one function.
_GPT2_ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_accurate": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "gelu_python_tanh": "gelu_new",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

# GPT-1's code there calls the tanh approximation "gelu", and has no other.
_GPT1_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu_new",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

_MUST_BE_OFF = {
    "add_cross_attention": "layers that attend to an encoder",
    "is_encoder_decoder": "an encoder",
    "quantization_config": "quantised weights",
    "pruned_heads": "pruned attention heads",
}


def read_config(path: Path) -> ModelConfig:
    """The model that a config.json describes.

    Raises:
        UserError: no such file, another kind of model, an option that cannot be honoured, or a bad value.
    """
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise UserError("this is not a model's configuration", where=path, fix="Restore the file")
    architecture = _architecture(raw, path)
    for option, meaning in _MUST_BE_OFF.items():
        if raw.get(option):
            raise UserError(
                f"the model has {meaning} ({option}), which gpt2lab does not compute",
                where=path,
                fix="Use `transformers` for this model",
            )
    fields = _Fields(raw, path)
    is_gpt2 = architecture == "gpt2"
    preset = ModelConfig.preset(architecture)
    try:
        return ModelConfig(
            architecture=architecture,
            vocab_size=fields.integer("vocab_size", preset.vocab_size),
            context_length=fields.integer("n_positions", preset.context_length, "max_position_embeddings"),
            n_layer=fields.integer("n_layer", 12, "num_hidden_layers"),
            n_head=fields.integer("n_head", 12, "num_attention_heads"),
            n_embd=fields.integer("n_embd", 768, "hidden_size"),
            n_inner=fields.integer("n_inner", 0) or None if is_gpt2 else None,
            activation=_activation(raw, architecture, path),
            layer_norm_epsilon=fields.number("layer_norm_epsilon", 1e-5),
            embd_pdrop=fields.number("embd_pdrop", 0.1),
            attn_pdrop=fields.number("attn_pdrop", 0.1),
            resid_pdrop=fields.number("resid_pdrop", 0.1),
            tie_word_embeddings=fields.flag("tie_word_embeddings", True),
            scale_attn_weights=fields.flag("scale_attn_weights", True) if is_gpt2 else True,
            scale_attn_by_inverse_layer_idx=(
                fields.flag("scale_attn_by_inverse_layer_idx", False) if is_gpt2 else False
            ),
        )
    except UserError as error:
        if error.where is None or not error.where.startswith("model."):
            raise
        field = error.where.removeprefix("model.")
        raise UserError(error.what, where=f"{path}, {field}", fix="Restore the file") from error


def write_config(config: ModelConfig, *, dtype: torch.dtype, end_of_text: int | None) -> Json:
    """The config.json of a model: what `transformers`, vLLM and llama.cpp's converter look for.

    Args:
        config: the model.
        dtype: the number type its weights are stored in.
        end_of_text: id of the token between documents, if there is one.

    Raises:
        UserError: a GPT-1 with options that its published format has no words for.
    """
    is_gpt2 = config.architecture == "gpt2"
    common: Json = {
        "architectures": [_CLASSES[config.architecture][0]],
        "model_type": "gpt2" if is_gpt2 else "openai-gpt",
        "dtype": str(dtype).removeprefix("torch."),
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,  # an older name that llama.cpp's converter reads
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "embd_pdrop": config.embd_pdrop,
        "attn_pdrop": config.attn_pdrop,
        "resid_pdrop": config.resid_pdrop,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": end_of_text,  # null where there is none: left out, it would become 50256
        "eos_token_id": end_of_text,
    }
    if not is_gpt2:
        return {**common, "afn": _gpt1_activation_name(config)}
    return {
        **common,
        "n_inner": config.n_inner,
        "activation_function": config.activation,
        "scale_attn_weights": config.scale_attn_weights,
        "scale_attn_by_inverse_layer_idx": config.scale_attn_by_inverse_layer_idx,
    }


def _gpt1_activation_name(config: ModelConfig) -> str:
    """What the GPT-1 format calls the model's activation, once it is known to have words for the rest."""
    names = {activation: name for name, activation in reversed(_GPT1_ACTIVATIONS.items())}
    unsayable = [
        ("activation", config.activation not in names),
        ("n_inner", config.inner_width != 4 * config.n_embd),
        ("scale_attn_weights", not config.scale_attn_weights),
        ("scale_attn_by_inverse_layer_idx", config.scale_attn_by_inverse_layer_idx),
    ]
    for field, cannot in unsayable:
        if cannot:
            raise UserError(
                f"{field} = {getattr(config, field)} cannot be written in the format of GPT-1",
                where=f"model.{field}",
                fix="Leave it at GPT-1's own value, or use the gpt2 architecture",
            )
    return names[config.activation]


def _architecture(raw: Json, path: Path) -> Architecture:
    kind = raw.get("model_type")
    if kind not in _ARCHITECTURES:
        what = f"this is a {kind} model" if kind else "there is no model_type in it"
        raise UserError(
            f"{what}, and gpt2lab reads gpt2 and openai-gpt models",
            where=path,
            fix="Choose a GPT-2 or GPT-1 model, or use `transformers` for this one",
        )
    architecture = _ARCHITECTURES[kind]
    classes = raw.get("architectures") or [_CLASSES[architecture][0]]
    if not set(classes) & set(_CLASSES[architecture]):
        language_model = _CLASSES[architecture][0]
        raise UserError(
            f"this is a {classes[0]}, not a plain language model",
            where=path,
            fix=f"Keep its language model alone with `transformers`: `{language_model}"
            f".from_pretrained({str(path.parent)!r}).save_pretrained('NEW')`",
        )
    return architecture


def _activation(raw: Json, architecture: Architecture, path: Path) -> Activation:
    if architecture == "gpt2":
        field, default, known = "activation_function", "gelu_new", _GPT2_ACTIVATIONS
    else:
        field, default, known = "afn", "gelu", _GPT1_ACTIVATIONS
    name = raw.get(field, default)
    if name not in known:
        raise UserError(
            f"activation {name!r} is not one that gpt2lab computes ({', '.join(known)})",
            where=f"{path}, {field}",
            fix="Use `transformers` for this model",
        )
    return known[name]


class _Fields:
    """Reads typed values out of a configuration."""

    def __init__(self, raw: Json, path: Path) -> None:
        self.raw = raw
        self.path = path

    def integer(self, name: str, default: int, alias: str = "") -> int:
        """A whole number; `alias` is another name that `transformers` takes for it, null is the default."""
        value = self.raw.get(name, self.raw.get(alias))
        return default if value is None else int(self._checked(name, value, (int,), "a whole number"))

    def number(self, name: str, default: float) -> float:
        return float(self._checked(name, self.raw.get(name, default), (int, float), "a number"))

    def flag(self, name: str, default: bool) -> bool:
        return bool(self._checked(name, self.raw.get(name, default), (bool,), "true or false"))

    def _checked(self, name: str, value: object, kinds: tuple[type, ...], wanted: str) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise UserError(
                f"{value!r} is not {wanted}",
                where=f"{self.path}, {name}",
                fix="Restore the file",
            )
        return value
