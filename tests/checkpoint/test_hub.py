from pathlib import Path
from typing import Any

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint import hub
from gpt2lab.checkpoint.hub import PUBLISHED, model_files, resolve, vocabulary_files
from gpt2lab.checkpoint.huggingface import load, save
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Hub ids that were asked for; the current directory is empty."""
    asked: list[str] = []

    def fetch(repo: str, choose: Any) -> Path:
        assert choose is model_files
        asked.append(repo)
        return tmp_path / "fetched"

    monkeypatch.setattr(hub, "fetch_from_hub", fetch)
    monkeypatch.chdir(tmp_path)
    return asked


@pytest.mark.parametrize(("name", "repo"), [*PUBLISHED.items(), ("org/name-1.5", "org/name-1.5")])
def test_names_and_hub_ids_are_fetched(name: str, repo: str, asked_for: list[str], tmp_path: Path) -> None:
    assert resolve(name) == tmp_path / "fetched"
    assert asked_for == [repo]


def test_an_existing_directory_wins(asked_for: list[str]) -> None:
    for name in ("gpt2", "org/name", "runs/first/checkpoints"):
        Path(name).mkdir(parents=True)
        assert resolve(name) == Path(name) == resolve(Path(name))
    assert asked_for == []


@pytest.mark.parametrize(
    "name",
    ["runs/typo", "./gpt2", "/nowhere/gpt2", "~/gpt2", "a/b/c", "org/", "/", "..", "../x", "org/.name"],
)
def test_what_looks_like_a_path_is_never_asked_for(name: str, asked_for: list[str]) -> None:
    Path("runs").mkdir()
    if not Path(name).is_dir():
        with pytest.raises(UserError, match=f"{Path(name)}: there is no such directory"):
            resolve(name)
    assert asked_for == []


def test_a_path_object_is_never_a_hub_id(asked_for: list[str]) -> None:
    with pytest.raises(UserError, match="org/name: there is no such directory"):
        resolve(Path("org/name"))
    assert asked_for == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [("gtp2", "gpt2"), ("GPT2", "gpt2"), ("gpt2_xl", "gpt2-xl"), ("gpt-2-medium", "gpt2-medium")],
)
def test_a_misspelt_name(name: str, meant: str, asked_for: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        resolve(name)
    assert f"there is no model '{name}'" in str(caught.value)
    assert caught.value.fix.startswith(f"Did you mean {meant}")
    assert asked_for == []


def test_a_name_like_no_other(asked_for: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        resolve("bert")
    assert caught.value.fix.startswith("Give one of gpt1, openai-gpt, gpt2,")


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match=r"model\.safetensors: this is a file"):
        resolve(tmp_path / "model.safetensors")


# The files of the published gpt2, as the Hub lists them.
PUBLISHED_GPT2 = [
    ".gitattributes",
    "64.tflite",
    "README.md",
    "config.json",
    "flax_model.msgpack",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "onnx/config.json",
    "onnx/decoder_model.onnx",
    "onnx/merges.txt",
    "pytorch_model.bin",
    "rust_model.ot",
    "tf_model.h5",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
]


def test_only_what_is_needed_is_fetched() -> None:
    assert model_files(PUBLISHED_GPT2) == [
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index = "model.safetensors.index.json"
    assert model_files(["config.json", index, *shards, "x.bin"]) == ["config.json", *shards, index]


def test_a_model_without_safetensors() -> None:
    with pytest.raises(UserError, match=r"weights only as pytorch_model\.bin, a pickle.*transformers"):
        model_files(["config.json", "pytorch_model.bin"])
    with pytest.raises(UserError, match="the model has no weights"):
        model_files(["README.md"])


def test_a_tokenizer_alone_does_not_need_the_weights() -> None:
    files = vocabulary_files(PUBLISHED_GPT2)
    assert files == [name for name in model_files(PUBLISHED_GPT2) if name != "model.safetensors"]
    assert vocabulary_files(["vocab.json", "merges.txt"]) == ["merges.txt", "vocab.json"]
    for too_few in (["config.json"], ["vocab.json", "model.safetensors"]):
        with pytest.raises(UserError, match="the model has no vocabulary"):
            vocabulary_files(too_few)


def test_a_published_name_from_the_cache_without_a_network(
    model: GPT, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    home = tmp_path / "cache/models--openai-community--gpt2"
    save(model, tokenizer, home / "snapshots" / ("a" * 40))
    (home / "refs").mkdir()
    (home / "refs/main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    loaded, their_tokenizer = load("gpt2")
    assert loaded.config == model.config
    assert their_tokenizer is not None
    with pytest.raises(UserError, match="openai-community/gpt2-xl is not on this machine"):
        load("gpt2-xl")
