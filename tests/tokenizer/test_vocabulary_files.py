"""Vocabularies on disk: every format, what transformers makes of ours, and what is wrong with bad ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GPT2Tokenizer

from gpt2lab.base.errors import UserError
from gpt2lab.tokenizer import ByteLevelTokenizer, Tokenizer, WordLevelTokenizer, load_tokenizer

from .strings import random_strings

TEXTS = [
    "Hello world, it's 2,000 words!\n\n  indented\t",
    "日本語 naïve ☃ 🤦🏽‍♂️",
    "",
    *random_strings(300, seed=2),
]


def save(tokenizer: Tokenizer, folder: Path) -> Path:
    tokenizer.save(folder)
    return folder


def without(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).unlink()
    return folder


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(change(content) or content), encoding="utf-8")


def test_every_form_of_what_is_saved(small: ByteLevelTokenizer, tmp_path: Path) -> None:
    folder = save(small, tmp_path / "new" / "folder")
    assert sorted(file.name for file in folder.iterdir()) == [
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]
    for path in (folder, folder / "tokenizer.json", folder / "vocab.json", folder / "merges.txt"):
        loaded = load_tokenizer(path)
        assert loaded == small
        assert [loaded.encode(text) for text in TEXTS] == [small.encode(text) for text in TEXTS]
    assert load_tokenizer(without(folder, "tokenizer.json")) == small


def test_openais_names_and_any_name(small: ByteLevelTokenizer, tmp_path: Path) -> None:
    folder = save(small, tmp_path)
    (folder / "tokenizer.json").rename(folder / "mine.json")
    (folder / "vocab.json").rename(folder / "encoder.json")
    (folder / "merges.txt").rename(folder / "vocab.bpe")
    paths = (folder, folder / "encoder.json", folder / "vocab.bpe", folder / "mine.json")
    assert all(load_tokenizer(path) == small for path in paths)


def test_published_gpt2(gpt2: ByteLevelTokenizer, tmp_path: Path) -> None:
    assert load_tokenizer(save(gpt2, tmp_path)).fingerprint == gpt2.fingerprint
    assert load_tokenizer(without(tmp_path, "tokenizer.json")).fingerprint == gpt2.fingerprint


def test_merges_as_pairs_or_strings_and_windows_line_ends(small: ByteLevelTokenizer, tmp_path: Path) -> None:
    folder = save(small, tmp_path)
    edit(
        folder / "tokenizer.json",
        lambda c: c["model"].update(merges=[m.split(" ") for m in c["model"]["merges"]]),
    )
    assert load_tokenizer(folder) == small
    without(folder, "tokenizer.json")
    merges = (folder / "merges.txt").read_bytes()
    (folder / "merges.txt").write_bytes(merges.replace(b"\n", b"\r\n"))
    assert load_tokenizer(folder) == small
    (folder / "merges.txt").write_bytes(merges.partition(b"\n")[2].rstrip(b"\n"))  # neither version nor end
    assert load_tokenizer(folder) == small


def test_transformers_opens_what_we_save(small: ByteLevelTokenizer, tmp_path: Path) -> None:
    folder = save(small, tmp_path)
    reference = AutoTokenizer.from_pretrained(folder)
    assert isinstance(reference, GPT2Tokenizer)
    assert len(reference) == reference.vocab_size == small.vocab_size
    assert reference.eos_token_id == reference.bos_token_id == small.end_of_text
    for text in TEXTS:
        tokens = reference.encode(text)
        assert tokens == small.encode(text, allow_special=True)
        assert reference.decode(tokens) == small.decode(tokens)


def test_transformers_opens_gpt2(gpt2: ByteLevelTokenizer, tmp_path: Path) -> None:
    reference = AutoTokenizer.from_pretrained(save(gpt2, tmp_path))
    assert [reference.encode(text) for text in TEXTS] == [gpt2.encode(t, allow_special=True) for t in TEXTS]


def test_transformers_opens_gpt1(gpt1: WordLevelTokenizer, tmp_path: Path) -> None:
    folder = save(gpt1, tmp_path)
    (folder / "config.json").write_text('{"model_type": "openai-gpt"}')
    reference = AutoTokenizer.from_pretrained(folder)
    assert type(reference).__name__ == "OpenAIGPTTokenizer"
    assert len(reference) == gpt1.vocab_size
    assert [reference.encode(text) for text in TEXTS] == [gpt1.encode(text) for text in TEXTS]
    assert load_tokenizer(folder) == gpt1
    assert load_tokenizer(without(folder, "tokenizer.json")) == gpt1


def test_we_open_what_transformers_saves(
    small: ByteLevelTokenizer, gpt1: WordLevelTokenizer, tmp_path: Path
) -> None:
    for name, tokenizer in (("2", small), ("1", gpt1)):
        reference = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path / name))
        reference.save_pretrained(tmp_path / f"{name}-again")
        loaded = load_tokenizer(tmp_path / f"{name}-again")
        assert loaded == tokenizer
        assert type(loaded) is type(tokenizer)


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_further_special_tokens(small: ByteLevelTokenizer, tmp_path: Path, form: str) -> None:
    folder = save(small, tmp_path / "plain")
    reference = AutoTokenizer.from_pretrained(folder)
    reference.add_special_tokens({"pad_token": "PADDING", "additional_special_tokens": ["PAD", "<|user|>"]})
    reference.save_pretrained(tmp_path / "more")
    if form == "vocab.json":
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(folder / name, tmp_path / "more")
        added = reference.get_added_vocab()
        (tmp_path / "more" / "added_tokens.json").write_text(json.dumps(added))
        without(tmp_path / "more", "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "more")
    assert loaded.vocab_size == 1003
    assert loaded.vocabulary.special.keys() == {"<|endoftext|>", "PADDING", "PAD", "<|user|>"}
    text = "<|user|> asks<|endoftext|>PADDING PAD"
    assert loaded.encode(text, allow_special=True) == reference.encode(text)
    assert loaded.encode(text) == small.encode(text)
    again = AutoTokenizer.from_pretrained(save(loaded, tmp_path / "again"))
    assert again.encode(text) == reference.encode(text)


def bad_model(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "tokenizer.json", lambda content: change(content["model"]) and None)


def bad_json(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "tokenizer.json", lambda content: change(content) and None)


def bad_merges(old: bytes, new: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        merges = (folder / "merges.txt").read_bytes()
        assert old in merges
        (folder / "merges.txt").write_bytes(merges.replace(old, new, 1))

    return spoil


def remove(*names: str) -> Callable[[Path], None]:
    return lambda folder: without(folder, *names) and None


WORD_PIECE = {"type": "WordPiece", "vocab": {"a": 0}}
DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("tokenizer.json", "vocab.json"), "there is no tokenizer in this folder"),
        (remove("tokenizer.json", "merges.txt"), "there is no tokenizer in this folder"),
        (
            lambda f: (f / "tokenizer.json").write_text('{"model": {'),
            "tokenizer.json: not valid JSON at line 1",
        ),
        (lambda f: (f / "tokenizer.json").write_bytes(b'{"\xff'), "tokenizer.json: not UTF-8 text"),
        (lambda f: (f / "tokenizer.json").write_text("[]"), "does not hold the JSON of a tokenizer"),
        (lambda f: (f / "tokenizer.json").write_text('{"a": 1}'), "does not hold a 'model'"),
        (bad_json(lambda c: c.update(model=WORD_PIECE)), "of the WordPiece kind, not BPE"),
        (bad_json(lambda c: c.update(pre_tokenizer=DIGITS)), "does not cut text as GPT-2's"),
        (bad_json(lambda c: c.update(pre_tokenizer=None)), "does not cut text as GPT-2's"),
        (bad_json(lambda c: c["pre_tokenizer"].update(use_regex=False)), "does not cut text as GPT-2's"),
        (bad_json(lambda c: c["pre_tokenizer"].update(add_prefix_space=True)), "changes the text"),
        (bad_json(lambda c: c.update(normalizer={"type": "NFC"})), "changes the text"),
        (bad_json(lambda c: c.update(added_tokens=[{"id": 5}])), "added_tokens"),
        (bad_model(lambda m: m.pop("merges")), "no 'model.merges'"),
        (bad_model(lambda m: m.pop("vocab")), "does not hold a 'model.vocab'"),
        (bad_model(lambda m: m["merges"].__setitem__(3, "one")), "merge 4: 'one' is not a pair"),
        (bad_model(lambda m: m["merges"].__setitem__(3, ["a", 1])), "merge 4: .* is not a pair"),
        (bad_model(lambda m: m["vocab"].update({"Ġ": "five"})), "the id of 'Ġ' is 'five', not an integer"),
        (bad_model(lambda m: m["vocab"].update({"!": 7})), "id 7 belongs to both '!' and '\\('"),
        (bad_model(lambda m: m["vocab"].pop("ĠĠ")), "no token has id 256: 999 tokens must have"),
        (bad_model(lambda m: m["vocab"].update({"x</w>": 1000})), "made by no merge, 'x</w>' among them"),
        (bad_model(lambda m: m["merges"].pop()), "made by no merge"),
        (bad_model(lambda m: m["merges"].append("ĠĠ Ġ!")), "'Ġ!' is not in the vocabulary"),
        (bad_model(lambda m: m["merges"].append("Q Q")), "makes 'QQ', which is not in the vocabulary"),
        (bad_model(lambda m: m["merges"].append(m["merges"][5])), "merge 744 makes .* a second time"),
        (bad_model(lambda m: m["merges"].reverse()), "is made only by a later merge"),
        (bad_model(lambda m: m["vocab"].update({"<0>": m["vocab"].pop("ý")})), "byte 0xfd has no token"),
        (bad_model(lambda m: m["vocab"].update({"<0>": m["vocab"].pop("Ġ")})), "neither GPT-2's vocabulary"),
        (bad_merges(b"\n", b"\nbroken\n"), "merges.txt, line 2: 'broken' is not a pair"),
        (bad_merges(b"\n", b"\nx y z\n"), "merges.txt, line 2: 'x y z' is not a pair"),
    ],
)
def test_bad_tokenizers(
    small: ByteLevelTokenizer, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = save(small, tmp_path)
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_tokenizer(folder)
    assert caught.value.where
    assert caught.value.where.startswith(str(tmp_path))


def test_missing_paths(small: ByteLevelTokenizer, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path / "merges.txt", tmp_path / "tokenizer.json"):
        with pytest.raises(UserError, match="no such file"):
            load_tokenizer(path)
    with pytest.raises(UserError, match=r"vocab\.json: no such file"):
        load_tokenizer(without(save(small, tmp_path), "vocab.json") / "merges.txt")


def test_gpt1_needs_its_way_of_cutting_and_unk(gpt1: WordLevelTokenizer, tmp_path: Path) -> None:
    folder = save(gpt1, tmp_path)
    edit(folder / "tokenizer.json", lambda c: c.update(normalizer=None) and None)
    with pytest.raises(UserError, match="does not lower-case and cut text as GPT-1's"):
        load_tokenizer(folder)
    without(folder, "tokenizer.json")
    edit(folder / "vocab.json", lambda v: v.update({"<other>": v.pop("<unk>")}) and None)
    with pytest.raises(UserError, match="there is no '<unk>' token"):
        load_tokenizer(folder)
