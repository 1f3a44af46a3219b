"""Saving and loading whole directories, and every way in which they can be wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint.huggingface import bytes_on_disk, load, save
from gpt2lab.checkpoint.training_state import TrainingState, load_training_state
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer


def some_state() -> TrainingState:
    tensors = {
        "momentum.h.0": torch.randn(4, 5).bfloat16(),
        "step": torch.tensor(12_345_678_901),
        "random": torch.arange(9, dtype=torch.uint8),
    }
    return TrainingState(tensors, {"step": 7, "best_loss": 3.25, "note": "é"})


@pytest.fixture
def saved(model: GPT, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A directory with a model, a tokenizer and training state."""
    save(model, tokenizer, tmp_path / "saved", training_state=some_state())
    return tmp_path / "saved"


def without_checksums(directory: Path) -> Path:
    (directory / "checksums.json").unlink()
    return directory


def rewrite_weights(directory: Path, change: Any) -> None:
    tensors = load_file(directory / "model.safetensors")
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def files_of(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_round_trip(saved: Path, model: GPT, tokenizer: Tokenizer) -> None:
    loaded, their_tokenizer = load(saved)
    assert loaded.config == model.config
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert loaded.lm_head.weight is loaded.wte.weight
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert their_tokenizer is not None
    assert their_tokenizer.fingerprint == tokenizer.fingerprint
    state, expected = load_training_state(saved), some_state()
    assert state.facts == expected.facts
    assert {name: tensor.dtype for name, tensor in state.tensors.items()} == {
        name: tensor.dtype for name, tensor in expected.tensors.items()
    }
    assert torch.equal(state.tensors["step"], expected.tensors["step"])


def test_the_list_of_files(saved: Path) -> None:
    assert files_of(saved) == [
        "checksums.json",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_state/state.json",
        "training_state/state.safetensors",
        "vocab.json",
    ]
    assert sorted(json.loads((saved / "checksums.json").read_text())) == files_of(saved)[1:]


def test_only_one_copy_of_tied_weights(saved: Path, model: GPT) -> None:
    names = load_file(saved / "model.safetensors")
    assert "lm_head.weight" not in names
    assert sum(tensor.numel() for tensor in names.values()) == sum(p.numel() for p in model.parameters())


def test_saving_twice_gives_the_same_bytes(saved: Path, model: GPT, tokenizer: Tokenizer) -> None:
    save(model, tokenizer, saved.parent / "again")
    for name in files_of(saved.parent / "again"):
        if name != "checksums.json":
            assert (saved / name).read_bytes() == (saved.parent / "again" / name).read_bytes()


def test_announced_size_is_enough(saved: Path, model: GPT) -> None:
    written = sum((saved / name).stat().st_size for name in files_of(saved))
    assert written <= bytes_on_disk(model, some_state()) <= written + 10_000_000


def test_loaded_weights_are_not_the_file(saved: Path) -> None:
    """The library maps the file into memory; someone who overwrites it must not change a loaded model."""
    loaded, _ = load(saved)
    state = load_training_state(saved)
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    for name in ("model.safetensors", "training_state/state.safetensors"):
        size = (saved / name).stat().st_size
        with (saved / name).open("r+b") as file:
            file.write(b"\xff" * size)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in before.items())
    assert state.tensors["random"].tolist() == list(range(9))


def test_weights_lie_in_memory_as_if_made_here(saved: Path) -> None:
    loaded, _ = load(saved)
    assert all(parameter.is_contiguous() for parameter in loaded.parameters())
    assert all(parameter.untyped_storage().nbytes() == parameter.nbytes for parameter in loaded.parameters())


def test_loading_draws_no_random_numbers(saved: Path) -> None:
    before = torch.get_rng_state()
    load(saved)
    assert torch.equal(before, torch.get_rng_state())


# --- damage ---


@pytest.mark.parametrize("seed", range(8))
def test_an_altered_byte_is_noticed_and_the_file_named(saved: Path, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name in files_of(saved):
        content = (saved / name).read_bytes()
        place = int(torch.randint(len(content), (), generator=generator))
        altered = bytearray(content)
        altered[place] ^= 1 << int(torch.randint(8, (), generator=generator))
        (saved / name).write_bytes(altered)
        if name == "checksums.json":  # white space may change without harm
            try:
                load(saved)
                load_training_state(saved)
            except UserError:
                pass
        else:
            reader = load_training_state if name.startswith("training_state/") else load
            with pytest.raises(UserError, match=name):
                reader(saved)
        (saved / name).write_bytes(content)
    load(saved)


@pytest.mark.parametrize("keep", [0, 0.5, -1])
def test_a_cut_file_is_noticed_and_named(saved: Path, keep: float) -> None:
    for name in files_of(saved):
        content = (saved / name).read_bytes()
        (saved / name).write_bytes(content[: int(keep * len(content)) if keep >= 0 else -2])
        reader = load_training_state if name.startswith("training_state/") else load
        with pytest.raises(UserError, match=name):
            reader(saved)
        (saved / name).write_bytes(content)


def test_a_missing_file_is_noticed_and_named(saved: Path) -> None:
    for name in files_of(saved):
        if name != "checksums.json":
            (saved / name).rename(saved / "away")
            reader = load_training_state if name.startswith("training_state/") else load
            with pytest.raises(UserError, match=name):
                reader(saved)
            (saved / "away").rename(saved / name)


def test_who_edits_a_file_on_purpose_is_told_what_to_do(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "attn_pdrop": 0.2}))
    with pytest.raises(UserError, match=r"changed it on purpose, delete .*checksums\.json"):
        load(saved)
    loaded, _ = load(without_checksums(saved))
    assert loaded.config.attn_pdrop == 0.2


def test_damage_in_a_directory_without_checksums(saved: Path) -> None:
    without_checksums(saved)
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors: damaged"):
        load(saved)
    weights.unlink()
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        load(saved)
    (saved / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json"):
        load(saved)


# --- weights that do not fit ---


def test_a_wrong_shape(saved: Path) -> None:
    name = "transformer.h.1.attn.c_attn.weight"
    rewrite_weights(saved, lambda tensors: tensors.update({name: torch.zeros(16, 48)}))
    with pytest.raises(
        UserError, match=rf"'{name}' has shape \(16, 48\), and config.json asks for \(32, 96\)"
    ):
        load(without_checksums(saved))


def test_a_square_matrix_is_checked_the_right_way_round(saved: Path) -> None:
    name = "transformer.h.0.mlp.c_fc.weight"
    rewrite_weights(saved, lambda tensors: tensors.update({name: torch.zeros(128, 32)}))
    with pytest.raises(
        UserError, match=rf"'{name}' has shape \(128, 32\), and config.json asks for \(32, 128\)"
    ):
        load(without_checksums(saved))


def test_missing_tensors(saved: Path) -> None:
    rewrite_weights(saved, lambda tensors: [tensors.pop(name) for name in list(tensors) if "h.1." in name])
    with pytest.raises(UserError, match=r"tensor 'transformer.h.1.ln_1.weight' is missing \(and 11 more\)"):
        load(without_checksums(saved))


def test_unexpected_tensors(saved: Path) -> None:
    rewrite_weights(saved, lambda tensors: tensors.update({"score.weight": torch.zeros(2, 32)}))
    with pytest.raises(UserError, match=r"unexpected tensor 'score.weight'"):
        load(without_checksums(saved))


def test_a_tensor_of_two_names(saved: Path) -> None:
    rewrite_weights(saved, lambda tensors: tensors.update({"wpe.weight": torch.zeros(24, 32)}))
    with pytest.raises(UserError, match=r"'wpe.weight' is there twice"):
        load(without_checksums(saved))


def test_numbers_that_are_not_floating_point(saved: Path) -> None:
    name = "transformer.h.1.mlp.c_fc.bias"
    rewrite_weights(saved, lambda tensors: tensors.update({name: torch.zeros(128, dtype=torch.int8)}))
    with pytest.raises(UserError, match=f"'{name}' holds I8 numbers"):
        load(without_checksums(saved))


def test_an_output_matrix_that_contradicts_the_configuration(saved: Path) -> None:
    rewrite_weights(saved, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(300, 32)}))
    with pytest.raises(UserError, match=r"'lm_head.weight' differs.*tie_word_embeddings"):
        load(without_checksums(saved))


def test_weights_only_as_a_pickle_are_never_read(saved: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (os._exit, (77,))

    (saved / "model.safetensors").unlink()
    torch.save(Trap(), saved / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin, a pickle.*save_pretrained"):
        load(without_checksums(saved))


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": "../../etc/x"}}'])
def test_a_bad_index_of_shards(saved: Path, content: str) -> None:
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError) as caught:
        load(without_checksums(saved))
    assert str(saved) in str(caught.value)


def test_a_tokenizer_with_more_tokens_than_the_model(tokenizer: Tokenizer, saved: Path) -> None:
    small = GPT(ModelConfig(vocab_size=200, context_length=8, n_layer=1, n_head=1, n_embd=8))
    with pytest.raises(UserError, match="the tokenizer has 270 tokens and the model 200"):
        save(small, tokenizer, saved.parent / "small")
    save(small, None, saved.parent / "small")
    shutil.copy(saved / "tokenizer.json", saved.parent / "small")
    with pytest.raises(UserError, match="the tokenizer has 270 tokens and the model 200"):
        load(saved.parent / "small")


def test_no_training_state(model: GPT, tmp_path: Path) -> None:
    save(model, None, tmp_path / "m")
    with pytest.raises(UserError, match=r"no training state.*--init-from"):
        load_training_state(tmp_path / "m")


# --- where it is saved ---


def test_an_earlier_checkpoint_is_replaced_whole(saved: Path, model: GPT) -> None:
    save(model, None, saved)
    assert files_of(saved) == ["checksums.json", "config.json", "generation_config.json", "model.safetensors"]
    assert names_in(saved.parent) == ["saved"]


def test_a_directory_with_other_things_is_not_deleted(saved: Path, model: GPT) -> None:
    (saved / "training_state/notes.txt").write_text("mine")
    with pytest.raises(
        UserError, match=r"holds training_state/notes\.txt, which saving a model here would delete"
    ):
        save(model, None, saved)
    with pytest.raises(UserError, match="would delete"):
        save(model, None, saved.parent)
    with pytest.raises(UserError, match="this is a file"):
        save(model, None, saved / "config.json")
    load(saved)


def test_saving_into_an_empty_directory_or_through_a_link(model: GPT, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    save(model, None, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    load(tmp_path / "empty")
    load(str(tmp_path / "link"))


def test_a_failed_save_leaves_the_earlier_checkpoint(
    saved: Path, model: GPT, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("in the middle")

    before = {name: (saved / name).read_bytes() for name in files_of(saved)}
    monkeypatch.setattr(type(tokenizer), "save", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        save(model, tokenizer, saved)
    assert {name: (saved / name).read_bytes() for name in files_of(saved)} == before
    assert names_in(saved.parent) == ["saved"]


def test_too_little_room_is_said_before_anything_is_written(
    saved: Path, model: GPT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1_000_000))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"the checkpoint new needs 10 MB and the disk has 1 MB free"):
        save(model, None, saved.parent / "new")
    assert names_in(saved.parent) == ["saved"]


FILL_THE_DISK = """
import pathlib, sys, torch
from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint import huggingface
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT

folder = pathlib.Path(sys.argv[1])
sizes = {"context_length": 8, "n_layer": 1, "n_head": 1, "n_embd": 64}
small, large = (GPT(ModelConfig(vocab_size=n, **sizes)) for n in (99, 9999))
try:
    huggingface.save(small, None, folder / "m")
except UserError as error:
    print("FIRST", error)
huggingface.require_free_space = lambda *_: None  # as if the room had vanished meanwhile
huggingface.save(small, None, folder / "m")
try:
    huggingface.save(large, None, folder / "m")
except UserError as error:
    print("SECOND", error)
print("LEFT", [path.name for path in folder.iterdir()])
assert torch.equal(huggingface.load(folder / "m")[0].wte.weight, small.wte.weight)
print("INTACT")
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """On a file system of 2 MB of our own, in a mount namespace of our own."""
    mount = 'mount -t tmpfs -o size=2m none "$1"'
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*alone, mount, "sh", tmp_path], check=False).returncode:
        pytest.skip("no small file system can be mounted here")
    done = subprocess.run(
        [*alone, f'{mount} && exec "$2" -c "$3" "$1"', "sh", tmp_path, sys.executable, FILL_THE_DISK],
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    first, second, left, intact = done.stdout.splitlines()
    assert "needs 10 MB and the disk has 2 MB free" in first
    assert "the disk is full; what was there before is untouched" in second
    assert left == "LEFT ['m']"
    assert intact == "INTACT"


# --- runs ---


def test_a_run_stands_for_its_newest_checkpoint(model: GPT, tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="no checkpoint yet"):
        load(tmp_path / "run")
    for step in (500, 90_000, 1_000):
        with torch.no_grad():
            model.wte.weight[0, 0] = step
        save(model, None, tmp_path / f"run/checkpoints/step-{step:08d}")
    (tmp_path / "run/checkpoints/.tmp-1-step-00099999").mkdir()
    loaded, _ = load(tmp_path / "run")
    assert loaded.wte.weight[0, 0] == 90_000


def test_a_number_type_and_a_device_can_be_asked_for(saved: Path) -> None:
    loaded, _ = load(saved, dtype=torch.bfloat16, device="cpu")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert loaded.lm_head.weight is loaded.wte.weight
