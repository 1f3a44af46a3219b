"""`gpt2lab tokenizer`, as it is typed."""

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.cli.tokenizer import main
from gpt2lab.tokenizer import load_tokenizer, train_bpe

Captured = pytest.CaptureFixture[bytes]
TEXT = "The cat sat on the mat; the cat's mat.\n\n  日本 🐈 naïve <|endoftext|>\t"


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(["the cat sat on the mat, the cat's mat " * 3], 270).save(folder)
    return folder


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Sets what standard input holds."""
    return lambda data: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("low lower lowest " * 50, encoding="utf-8")
    with gzip.open(folder / "b.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": f"new newer newest number {i}"}) + "\n" for i in range(50))
    return folder


def test_train(texts: Path, tmp_path: Path, capsysbinary: Captured) -> None:
    out = tmp_path / "new" / "tokenizer"
    assert main(["train", str(texts), "--vocab-size", "280", "--out", str(out)]) == 0
    tokenizer = load_tokenizer(out)
    assert tokenizer.vocab_size == 280
    assert len(tokenizer.encode(" lower newest")) < 6
    said = capsysbinary.readouterr().out.decode()
    assert said.startswith(f"{out}: 280 tokens, learned from 2.1 kB of text")


def test_train_overwrites_only_when_told(texts: Path, tmp_path: Path) -> None:
    command = ["train", str(texts), "--vocab-size", "280", "--out", str(tmp_path)]
    main(command)
    before = (tmp_path / "tokenizer.json").read_bytes()
    command[3] = "270"
    with pytest.raises(UserError, match="there is a tokenizer here already") as caught:
        main(command)
    assert "--overwrite" in caught.value.fix
    assert (tmp_path / "tokenizer.json").read_bytes() == before
    main([*command, "--overwrite"])
    assert load_tokenizer(tmp_path).vocab_size == 270


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vocab-size", "256"], "cannot hold the 256 bytes"),
        (["--vocab-size", "50257"], "the text is too small for 50,257 tokens"),
    ],
)
def test_train_refuses(texts: Path, tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(["train", str(texts), "--out", str(tmp_path / "out"), *options])
    assert not (tmp_path / "out").exists()


def test_train_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no files are named"):
        main(["train", "--vocab-size", "300", "--out", str(tmp_path)])
    with pytest.raises(UserError, match=r"nothing\.txt"):
        main(["train", str(tmp_path / "nothing.txt"), "--vocab-size", "300", "--out", str(tmp_path)])


def test_encode_and_decode_are_inverse(
    tokenizer_folder: Path, tmp_path: Path, capsysbinary: Captured, type_in: Callable[[bytes], None]
) -> None:
    (tmp_path / "text").write_bytes(TEXT.encode())
    name = str(tokenizer_folder)
    main(["encode", name, TEXT])
    printed = capsysbinary.readouterr().out
    expected = load_tokenizer(tokenizer_folder).encode(TEXT)
    assert [int(word) for word in printed.split()] == expected
    main(["encode", name, "--file", str(tmp_path / "text")])
    assert capsysbinary.readouterr().out == printed
    type_in(TEXT.encode())
    main(["encode", str(tokenizer_folder / "tokenizer.json")])
    assert capsysbinary.readouterr().out == printed
    type_in(printed.replace(b" ", b", "))
    main(["decode", name])
    assert capsysbinary.readouterr().out == TEXT.encode()
    main(["decode", name, *printed.decode().split()])
    assert capsysbinary.readouterr().out == TEXT.encode()


def test_encode_nothing(tokenizer_folder: Path, capsysbinary: Captured) -> None:
    main(["encode", str(tokenizer_folder), ""])
    main(["encode", str(tokenizer_folder), "", "--pieces"])
    assert capsysbinary.readouterr().out == b"\n"


def test_pieces(tokenizer_folder: Path, capsysbinary: Captured) -> None:
    main(["encode", str(tokenizer_folder), "é the\n<|endoftext|>", "--pieces", "--allow-special"])
    pieces = [line.split(maxsplit=1)[1] for line in capsysbinary.readouterr().out.decode().splitlines()]
    assert pieces == [r"b'\xc3'", r"b'\xa9'", "' the'", r"'\n'", "'<|endoftext|>'"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "{folder}", "text", "--file", "x"], "there is more than one text"),
        (["encode", "{folder}", "--file", "{folder}/none.txt"], "none.txt: no such file"),
        (["encode", "{folder}/none/here", "text"], "there is no such directory"),
        (["decode", "{folder}", "12", "x3"], "'x3' is not a token id"),
        (["decode", "{folder}", "²"], "'²' is not a token id"),
        (["decode", "{folder}", "270"], "there is no token 270: this vocabulary has 270"),
        (["decode", "/", "1"], "there is no tokenizer in this folder"),
    ],
)
def test_mistakes(tokenizer_folder: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main([word.replace("{folder}", str(tokenizer_folder)) for word in arguments])


def test_input_that_is_not_text(tokenizer_folder: Path, type_in: Callable[[bytes], None]) -> None:
    type_in(b"caf\xe9")
    with pytest.raises(UserError, match="standard input: not UTF-8 text: byte 3 is 0xe9"):
        main(["encode", str(tokenizer_folder)])


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train"], ["encode", "a", "b", "--peices"]])
def test_misspelt(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("verb", [[], ["train"], ["encode"], ["decode"]])
def test_help(verb: list[str], capsysbinary: Captured) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*verb, "--help"])
    assert caught.value.code == 0
    said = capsysbinary.readouterr().out.decode()
    assert f"usage: gpt2lab tokenizer {''.join(verb)}".strip() in said
    assert "gpt2lab tokenizer train texts/" in said or verb


def test_importing_it_is_light() -> None:
    heavy = "{'torch', 'numpy', 'tiktoken', 'tokenizers', 'rich', 'matplotlib'}"
    code = f"import sys, gpt2lab.cli.tokenizer; print(*{heavy} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b""


def test_a_published_vocabulary_is_fetched_without_the_models_weights(
    tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def fetch(repo: str, choose: Callable[[list[str]], list[str]]) -> Path:
        asked.append((repo, choose(["model.safetensors", "tokenizer.json", "README.md"])))
        return tokenizer_folder

    monkeypatch.setattr("gpt2lab.checkpoint.hub.fetch_from_hub", fetch)
    assert main(["encode", "gpt2", "the cat"]) == 0
    assert asked == [("openai-community/gpt2", ["tokenizer.json"])]
