import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint.config_json import read_config, write_config
from gpt2lab.model.config import PRESETS, ModelConfig


def written(path: Path, **options: Any) -> Path:
    (path / "config.json").write_text(json.dumps({"model_type": "gpt2", **options}))
    return path / "config.json"


CONFIGS = st.builds(
    ModelConfig,
    architecture=st.just("gpt2"),
    vocab_size=st.integers(1, 10**6),
    context_length=st.integers(1, 10**5),
    n_layer=st.integers(1, 200),
    n_head=st.just(4),
    n_embd=st.integers(1, 1000).map(lambda n: 4 * n),
    n_inner=st.none() | st.integers(1, 5000),
    activation=st.sampled_from(["gelu_new", "gelu", "relu", "silu"]),
    layer_norm_epsilon=st.floats(1e-12, 1.0),
    embd_pdrop=st.floats(0, 0.99),
    attn_pdrop=st.floats(0, 0.99),
    resid_pdrop=st.floats(0, 0.99),
    tie_word_embeddings=st.booleans(),
    scale_attn_weights=st.booleans(),
    scale_attn_by_inverse_layer_idx=st.booleans(),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=CONFIGS)
def test_every_configuration_survives(config: ModelConfig, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(json.dumps(write_config(config, dtype=torch.bfloat16, end_of_text=None)))
    assert read_config(path) == config


@pytest.mark.parametrize("name", PRESETS)
def test_published_sizes_survive(name: str, tmp_path: Path) -> None:
    config = ModelConfig.preset(name)
    (tmp_path / "c").write_text(json.dumps(write_config(config, dtype=torch.float32, end_of_text=5)))
    assert read_config(tmp_path / "c") == config


@pytest.mark.parametrize("kind", ["gpt2", "openai-gpt"])
def test_absent_options_have_the_values_they_have_in_transformers(kind: str, tmp_path: Path) -> None:
    import transformers

    theirs: Any = transformers.GPT2Config() if kind == "gpt2" else transformers.OpenAIGPTConfig()
    ours = read_config(written(tmp_path, model_type=kind))
    for field in ("vocab_size", "n_layer", "n_head", "n_embd", "layer_norm_epsilon", "tie_word_embeddings"):
        assert getattr(ours, field) == getattr(theirs, field), field
    for field in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
        assert getattr(ours, field) == getattr(theirs, field) == 0.1
    assert ours.context_length == theirs.n_positions
    assert ours.activation == "gelu_new"


def test_no_option_of_transformers_is_overlooked() -> None:
    """A new option there must be looked at here: is it carried over, refused, or without effect on logits?"""
    import dataclasses

    import transformers

    carried_over = {
        *(
            "vocab_size",
            "n_positions",
            "n_embd",
            "n_layer",
            "n_head",
            "n_inner",
            "activation_function",
            "afn",
        ),
        *("resid_pdrop", "embd_pdrop", "attn_pdrop", "layer_norm_epsilon", "tie_word_embeddings"),
        *("scale_attn_weights", "scale_attn_by_inverse_layer_idx"),
    }
    refused = {"add_cross_attention"}
    without_effect = {
        *("initializer_range", "use_cache", "bos_token_id", "eos_token_id", "pad_token_id"),
        *("reorder_and_upcast_attn", "summary_type", "summary_use_proj", "summary_activation"),
        *("summary_proj_to_labels", "summary_first_dropout"),
    }
    base = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}  # type: ignore[arg-type]
    for kind in (transformers.GPT2Config, transformers.OpenAIGPTConfig):
        own = {field.name for field in dataclasses.fields(kind)} - base  # type: ignore[arg-type]
        assert own <= carried_over | refused | without_effect


def test_other_names_that_transformers_takes(tmp_path: Path) -> None:
    config = read_config(
        written(
            tmp_path, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, max_position_embeddings=7
        )
    )
    assert (config.n_embd, config.n_layer, config.n_head, config.context_length) == (32, 3, 2, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "llama"}, "this is a llama model"),
        ({"model_type": None}, "no model_type"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"pruned_heads": {"0": [1]}}, "pruned"),
        (
            {"architectures": ["GPT2ForSequenceClassification"]},
            "GPT2ForSequenceClassification.*save_pretrained",
        ),
        ({"activation_function": "quick_gelu"}, "quick_gelu"),
        ({"model_type": "openai-gpt", "afn": "tanh"}, "'tanh'"),
        ({"n_embd": "768"}, "n_embd: '768' is not a whole number"),
        ({"n_layer": True}, "n_layer: True is not a whole number"),
        ({"n_layer": 1.5}, "n_layer: 1.5 is not"),
        ({"scale_attn_weights": 1}, "scale_attn_weights: 1 is not true or false"),
        ({"layer_norm_epsilon": None}, "layer_norm_epsilon: None is not a number"),
        ({"n_head": 7}, "config.json, n_head: 7 does not divide n_embd 768"),
        ({"vocab_size": -1}, "config.json, vocab_size: is -1"),
    ],
)
def test_what_cannot_be_honoured_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_config(written(tmp_path, **options))
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"gpt2"'])
def test_what_is_no_configuration(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        read_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "gelu"},
        {"n_inner": 100},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
    ],
)
def test_a_gpt1_that_its_format_has_no_words_for(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"model.{next(iter(options))}"):
        write_config(ModelConfig("gpt1", **options), dtype=torch.float32, end_of_text=None)
