"""A user's mistakes at the command line: each gives one line that says what to do, and exit code 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import gpt2lab
from gpt2lab.cli.main import main
from gpt2lab.corpus.build import prepare
from gpt2lab.tokenizer import train_bpe

TEXT = "\n\n".join(
    f"Paragraph {number} speaks of the weather, the sea and the {number * 7} ships on it."
    for number in range(300)
)
TINY = (
    "--model.vocab-size 300 --model.context-length 16 --model.n-layer 1 --model.n-head 2 --model.n-embd 16 "
    "--batch-tokens 64 --schedule.steps 4 --schedule.warmup-steps 1 --compile off --device cpu "
    "--data.validation-fraction 0.2 --validate-tokens 64"
).split()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a vocabulary, shards and a model."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "text.txt").write_text(TEXT)
    tokenizer = train_bpe([TEXT], 300)
    (folder / "vocab").mkdir()
    tokenizer.save(folder / "vocab")
    prepare([folder / "text.txt"], tokenizer, folder / "shards", 0.2)
    config = gpt2lab.ModelConfig(vocab_size=300, context_length=16, n_layer=1, n_head=2, n_embd=16)
    model = gpt2lab.GPT(config).initialise(torch.Generator().manual_seed(0))
    gpt2lab.save(model, tokenizer, folder / "model")
    return folder


def _train(*options: str) -> Callable[[Path, Path], list[str]]:
    def command(made: Path, out: Path) -> list[str]:
        words = ["train", "demo", "--out", str(out), "--data.tokenizer", str(made / "vocab"), *TINY]
        return [*words, *(option.format(made=made, out=out) for option in options)]

    return command


def _plain(*words: str) -> Callable[[Path, Path], list[str]]:
    return lambda made, out: [word.format(made=made, out=out) for word in words]


CASES = {
    "unknown command": (_plain("trian", "demo"), "there is no command 'trian'. Did you mean `gpt2lab train`"),
    "unknown recipe": (_plain("train", "dmeo"), "there is no recipe, TOML file or run folder 'dmeo'"),
    "no data": (_plain("train", "demo", "--out", "{out}"), "names no data"),
    "missing file": (_train("--data.path", "{made}/nowhere.txt"), "nowhere.txt"),
    "empty text": (_train("--data.path", "{made}/empty.txt"), "empty.txt"),
    "not UTF-8": (_train("--data.path", "{made}/latin1.txt"), "not UTF-8"),
    "cut shard": (_train("--data.path", "{made}/cut"), "cut short"),
    "vocabulary does not fit": (
        _train("--data.path", "{made}/shards", "--model.vocab-size", "290"),
        "vocabulary does not fit",
    ),
    "bad batch": (_train("--data.path", "{made}/shards", "--batch-tokens", "70"), "not a multiple"),
    "init from another shape": (
        _train("--data.path", "{made}/shards", "--init-from", "{made}/model", "--model.n-layer", "2"),
        "another shape",
    ),
    "unknown model": (_plain("generate", "{made}/no-model", "Hello"), "no-model"),
    "altered byte": (_plain("generate", "{made}/altered", "Hello"), "model.safetensors"),
    "wrong shape": (_plain("generate", "{made}/misshapen", "Hello"), "wte"),
    "prompt too long": (_plain("generate", "{made}/model", TEXT.replace("{", "")), "context"),
    "bad temperature": (_plain("generate", "{made}/model", "Hi", "--temperature", "-1"), "temperature"),
}


@pytest.fixture(scope="module")
def broken(made: Path) -> Path:
    """`made`, with the broken things the cases name."""
    (made / "empty.txt").write_text("")
    (made / "latin1.txt").write_bytes("caf\xe9 ".encode("latin1") * 100)
    shutil.copytree(made / "shards", made / "cut")
    shard = made / "cut" / "train_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-100])
    shutil.copytree(made / "model", made / "altered")
    weights = bytearray((made / "altered" / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (made / "altered" / "model.safetensors").write_bytes(weights)
    shutil.copytree(made / "model", made / "misshapen")
    (made / "misshapen" / "checksums.json").unlink()
    config = json.loads((made / "misshapen" / "config.json").read_text())
    (made / "misshapen" / "config.json").write_text(json.dumps(config | {"vocab_size": 310}))
    return made


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_exit_code_2(
    case: str, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, expected = CASES[case]
    assert main(command(broken, tmp_path / "out")) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gpt2lab: error: ")]
    assert len(errors) == 1
    assert expected in errors[0]


def test_a_misspelt_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "demo", "--schedule.stepz", "3"])
    assert stop.value.code == 2
    assert "--schedule.stepz" in capsys.readouterr().err


def test_options_cannot_change_a_started_run(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(_train("--data.path", "{made}/shards")(made, out)) == 0
    assert main(["train", str(out), "--schedule.steps", "9"]) == 2
    assert main(_train("--data.path", "{made}/shards")(made, out)) == 2
    assert "a run was already started in this folder" in capsys.readouterr().err
    assert main(["train", str(out)]) == 0  # a finished run stays finished
