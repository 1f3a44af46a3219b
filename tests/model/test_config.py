import pytest
import torch

from gpt2lab.base.errors import UserError
from gpt2lab.model.config import PRESETS, ModelConfig, count_parameters
from gpt2lab.model.gpt import GPT

PUBLISHED_COUNTS = {
    "gpt1": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
}


@pytest.mark.parametrize(("name", "count"), PUBLISHED_COUNTS.items())
def test_published_sizes(name: str, count: int) -> None:
    assert count_parameters(ModelConfig.preset(name)) == count


@pytest.mark.parametrize(
    "config",
    [
        *PRESETS.values(),
        ModelConfig("gpt1", vocab_size=50, context_length=9, n_layer=3, n_head=2, n_embd=8, n_inner=5),
        ModelConfig(
            vocab_size=50, context_length=9, n_layer=3, n_head=2, n_embd=8, tie_word_embeddings=False
        ),
    ],
    ids=[*PRESETS, "narrow gpt1", "untied"],
)
def test_count_is_that_of_the_module(config: ModelConfig) -> None:
    with torch.device("meta"):
        model = GPT(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == count_parameters(config)


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'gpt5'.*gpt2-medium"):
        ModelConfig.preset("gpt5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_head": 5}, "n_head.*5 does not divide n_embd 768"),
        ({"n_layer": 0}, "n_layer.*is 0"),
        ({"context_length": -1}, "context_length.*is -1"),
        ({"n_inner": 0}, "inner_width.*is 0"),
        ({"attn_pdrop": 1.0}, "attn_pdrop.*is 1.0"),
    ],
)
def test_impossible_shapes_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ModelConfig(**options)  # type: ignore[arg-type]
