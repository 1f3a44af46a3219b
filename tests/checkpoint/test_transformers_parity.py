"""Our logits are those of `transformers`, for directories that it wrote and for directories that we wrote."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2lab.checkpoint.huggingface import load, save
from gpt2lab.model.gpt import GPT, KVCache
from gpt2lab.tokenizer import Tokenizer

LARGEST_DIFFERENCE = {torch.float32: 2e-5, torch.float64: 1e-10}

GPT2_SHAPES: list[dict[str, Any]] = [
    {"n_layer": 1, "n_head": 1, "n_embd": 8},
    {"n_layer": 2, "n_head": 4, "n_embd": 16, "vocab_size": 97, "n_positions": 32},
    {"n_layer": 3, "n_head": 3, "n_embd": 48, "n_inner": 40, "activation_function": "gelu_fast"},
    {"n_layer": 4, "n_head": 8, "n_embd": 64, "vocab_size": 257, "activation_function": "gelu"},
    {"n_layer": 2, "n_embd": 32, "scale_attn_weights": False, "activation_function": "silu"},
    {"n_layer": 3, "n_head": 4, "n_embd": 32, "scale_attn_by_inverse_layer_idx": True},
    {"n_layer": 6, "n_head": 5, "n_embd": 40, "layer_norm_epsilon": 1e-3, "activation_function": "relu"},
    {"n_layer": 2, "n_head": 6, "n_embd": 96, "vocab_size": 1000, "n_positions": 64},
    {"n_layer": 2, "n_head": 2, "n_embd": 24, "tie_word_embeddings": False},
]
GPT1_SHAPES: list[dict[str, Any]] = [
    {"n_layer": 1, "n_head": 1, "n_embd": 8},
    {"n_layer": 2, "n_head": 4, "n_embd": 16, "vocab_size": 97, "n_positions": 32},
    {"n_layer": 3, "n_head": 3, "n_embd": 48},
    {"n_layer": 4, "n_head": 8, "n_embd": 64, "vocab_size": 257, "layer_norm_epsilon": 1e-3},
    {"n_layer": 2, "n_embd": 32, "afn": "relu"},
    {"n_layer": 3, "n_head": 4, "n_embd": 32, "afn": "silu"},
    {"n_layer": 6, "n_head": 5, "n_embd": 40},
    {"n_layer": 2, "n_head": 6, "n_embd": 96, "vocab_size": 1000, "n_positions": 64},
    {"n_layer": 2, "n_head": 2, "n_embd": 24, "tie_word_embeddings": False},
]
LARGEST_SEEN: dict[str, float] = {}
CASES = [("gpt2", shape) for shape in GPT2_SHAPES] + [("gpt1", shape) for shape in GPT1_SHAPES]
DTYPES = pytest.mark.parametrize("dtype", LARGEST_DIFFERENCE, ids=["float32", "float64"])


@pytest.fixture(scope="module", autouse=True)
def _report() -> Iterator[None]:
    """Print what was measured; `pytest -s` shows it."""
    yield
    print()
    for label, difference in LARGEST_SEEN.items():
        print(f"largest difference of logits, {label}: {difference:.1e}")


def some_tokens(model: GPT) -> torch.Tensor:
    shape = (3, model.config.context_length)
    return torch.randint(model.config.vocab_size, shape, generator=torch.Generator().manual_seed(5))


def with_cache(model: GPT, tokens_BT: torch.Tensor) -> torch.Tensor:
    """Logits computed a few tokens at a time: 1, 2, 3, 1, 2, 3, ..."""
    B, T = tokens_BT.shape
    cache = KVCache.allocate(model.config, B, T, device=torch.device("cpu"), dtype=model.wte.weight.dtype)
    parts: list[torch.Tensor] = []
    start = 0
    while start < T:
        end = min(T, start + 1 + len(parts) % 3)
        positions_BT = torch.arange(start, end).expand(B, -1)
        parts.append(model(tokens_BT[:, start:end], cache, positions_BT))
        start = end
    return torch.cat(parts, dim=1)


def assert_same_logits(ours: GPT, theirs: Any, label: str) -> None:
    tokens_BT = some_tokens(ours)
    with torch.no_grad():
        expected_BTV = theirs(tokens_BT).logits
        found = {"": ours(tokens_BT), ", cached": with_cache(ours, tokens_BT)}
    assert expected_BTV.abs().max() > 1  # or the comparison would say little
    for kind, logits_BTV in found.items():
        assert logits_BTV.dtype == expected_BTV.dtype
        difference = (logits_BTV - expected_BTV).abs().max().item()
        LARGEST_SEEN[label + kind] = max(LARGEST_SEEN.get(label + kind, 0.0), difference)
        assert difference <= LARGEST_DIFFERENCE[logits_BTV.dtype]


@DTYPES
@pytest.mark.parametrize(("architecture", "shape"), CASES)
def test_we_load_what_transformers_saves(
    architecture: str, shape: Any, dtype: torch.dtype, make_reference: Any, tmp_path: Path
) -> None:
    theirs = make_reference(architecture, seed=len(str(shape)), dtype=dtype, **shape)
    theirs.save_pretrained(tmp_path)
    ours, tokenizer = load(tmp_path, dtype=None)
    assert tokenizer is None
    assert not ours.training
    assert_same_logits(ours, theirs, f"{architecture} {dtype}")


@DTYPES
@pytest.mark.parametrize(("architecture", "shape"), CASES)
def test_transformers_loads_what_we_save(
    architecture: str, shape: Any, dtype: torch.dtype, make_reference: Any, tmp_path: Path
) -> None:
    import transformers

    make_reference(architecture, seed=7, dtype=dtype, **shape).save_pretrained(tmp_path / "theirs")
    ours, _ = load(tmp_path / "theirs", dtype=None)
    save(ours, None, tmp_path / "ours")
    auto: Any = transformers.AutoModelForCausalLM
    theirs, said = auto.from_pretrained(tmp_path / "ours", output_loading_info=True, dtype="auto")
    assert not any(said.values()), said
    assert_same_logits(ours, theirs.eval(), f"{architecture} {dtype}")


@pytest.mark.parametrize("architecture", ["gpt1", "gpt2"])
def test_round_trip_is_exact(architecture: str, make_reference: Any, tmp_path: Path) -> None:
    theirs = make_reference(architecture, seed=2)
    theirs.save_pretrained(tmp_path / "a")
    first, _ = load(tmp_path / "a")
    save(first, None, tmp_path / "b")
    second, _ = load(tmp_path / "b")
    assert second.config == first.config
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    # The very bytes, too: same names, order, types and layout.
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_upcast_attention_changes_only_rounding(make_reference: Any, tmp_path: Path) -> None:
    theirs = make_reference("gpt2", attn_implementation="eager", reorder_and_upcast_attn=True, n_layer=3)
    theirs.save_pretrained(tmp_path)
    ours, _ = load(tmp_path)
    assert_same_logits(ours, theirs, "upcast")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_files(dtype: torch.dtype, make_reference: Any, tmp_path: Path) -> None:
    theirs = make_reference("gpt2", dtype=dtype)
    theirs.save_pretrained(tmp_path)
    as_stored, _ = load(tmp_path, dtype=None)
    widened, _ = load(tmp_path)
    expected = theirs.state_dict()["transformer.h.1.mlp.c_fc.weight"].t()
    assert torch.equal(as_stored.state_dict()["h.1.mlp.c_fc.weight"], expected)
    assert torch.equal(widened.state_dict()["h.1.mlp.c_fc.weight"], expected.float())
    save(as_stored, None, tmp_path / "again")
    again, _ = load(tmp_path / "again", dtype=None)
    assert again.wte.weight.dtype == dtype


def test_files_cut_into_shards(make_reference: Any, tmp_path: Path) -> None:
    theirs = make_reference("gpt2", n_layer=4, n_embd=32)
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    ours, _ = load(tmp_path)
    assert_same_logits(ours, theirs, "shards")


def test_the_whole_of_what_we_save_opens_in_transformers(
    model: GPT, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    import transformers

    save(model, tokenizer, tmp_path / "m")
    theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    assert type(theirs).__name__ == "GPT2LMHeadModel"
    text = "the cat sat on that mat"
    tokens = tokenizer.encode(text)
    assert their_tokenizer(text)["input_ids"] == tokens
    assert theirs.config.eos_token_id == theirs.generation_config.eos_token_id == tokenizer.end_of_text
    written = theirs.generate(torch.tensor([tokens]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    ours = torch.tensor([tokens])
    while ours.size(1) < written.size(1):
        ours = torch.cat([ours, model(ours)[:, -1:].argmax(dim=-1)], dim=1)
    assert torch.equal(written, ours)


def test_without_a_tokenizer_no_token_ends_a_text(model: GPT, tmp_path: Path) -> None:
    import transformers

    save(model, None, tmp_path / "m")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert theirs.config.bos_token_id is None  # and not 50256, which this model does not know
    assert theirs.generation_config.eos_token_id is None


def test_old_layouts(make_reference: Any, tmp_path: Path) -> None:
    """As the published GPT-2 files: no prefix, mask constants, perhaps the tied matrix twice."""
    from safetensors.torch import save_file

    theirs = make_reference("gpt2")
    theirs.config.save_pretrained(tmp_path)
    state = {name.removeprefix("transformer."): tensor for name, tensor in theirs.state_dict().items()}
    tokens_BT = torch.arange(10)[None]
    masks = {"h.0.attn.bias": torch.ones(1, 1, 16, 16), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    for layout in (
        {**state, **masks},
        {**state, **masks, "lm_head.weight": state["wte.weight"].clone()},
        {name: tensor for name, tensor in state.items() if name != "wte.weight"},  # only by its other name
    ):
        if "lm_head.weight" in layout:
            layout["lm_head.weight"] = layout["lm_head.weight"].clone()
        save_file(layout, tmp_path / "model.safetensors", metadata={"format": "pt"})
        ours, _ = load(tmp_path)
        assert ours.lm_head.weight is ours.wte.weight
        assert torch.allclose(ours(tokens_BT), theirs(tokens_BT).logits, atol=2e-5, rtol=0)


ALIASES = [
    "gelu_new",
    "gelu_fast",
    "gelu_accurate",
    "gelu_pytorch_tanh",
    "gelu_python_tanh",
    "gelu_python",
    "swish",
]


@pytest.mark.parametrize("name", ALIASES)
def test_every_name_of_an_activation(name: str, make_reference: Any, tmp_path: Path) -> None:
    theirs = make_reference("gpt2", activation_function=name, dtype=torch.float64)
    theirs.save_pretrained(tmp_path)
    ours, _ = load(tmp_path, dtype=None)
    tokens_BT = some_tokens(ours)
    assert torch.allclose(ours(tokens_BT), theirs(tokens_BT).logits, atol=1e-10, rtol=0)
