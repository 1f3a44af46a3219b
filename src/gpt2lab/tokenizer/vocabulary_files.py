"""Vocabularies on disk: OpenAI's own files, vocab.json with merges.txt, and Hugging Face's tokenizer.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import read_json, read_text, write_json, write_text
from gpt2lab.tokenizer.vocabulary import END_OF_TEXT, END_OF_WORD, UNKNOWN, Vocabulary, checked_vocabulary

SINGLE_FILE = "tokenizer.json"
FILE_PAIRS = (
    ("vocab.json", "merges.txt"),  # Hugging Face
    ("encoder.json", "vocab.bpe"),  # OpenAI's GPT-2
    ("encoder_bpe_40000.json", "vocab_40000.bpe"),  # OpenAI's GPT-1
    ("model/encoder_bpe_40000.json", "model/vocab_40000.bpe"),  # a clone of OpenAI's GPT-1 repository
)
_VERSION_LINE = "#version"
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_RESTORE = "Restore the file from where it came"
_FOR_WHOM = "Only tokenizers of the GPT-1 and GPT-2 kind are read; use one of those"


def holds_vocabulary(folder: Path) -> bool:
    """Whether a folder has one of the files that number a vocabulary's tokens."""
    return any((folder / name).exists() for name in (SINGLE_FILE, *(ids for ids, _ in FILE_PAIRS)))


def read_vocabulary(path: Path) -> Vocabulary:
    """Read the vocabulary that a folder holds, or that one file of it (with its sibling) holds.

    Raises:
        UserError: no such files, malformed ones, a tokenizer of another kind, or an unsound vocabulary.
    """
    if path.is_dir():
        if (path / SINGLE_FILE).is_file():
            return _read_single_file(path / SINGLE_FILE)
        for names in FILE_PAIRS:
            if all((path / name).is_file() for name in names):
                return _read_pair(path / names[0], path / names[1])
        looked_for = ", ".join([SINGLE_FILE, *(f"{a} with {b}" for a, b in FILE_PAIRS[:3])])
        raise UserError(
            "there is no tokenizer in this folder",
            where=path,
            fix=f"A tokenizer is one of: {looked_for}",
        )
    for ids_name, merges_name in FILE_PAIRS[:3]:
        if path.name in (ids_name, merges_name):
            return _read_pair(path.with_name(ids_name), path.with_name(merges_name))
    return _read_single_file(path)


def write_vocabulary(vocabulary: Vocabulary, directory: Path) -> None:
    """Write tokenizer.json, vocab.json, merges.txt and tokenizer_config.json, as Hugging Face names them.

    Any of the first two forms alone defines the tokenizer; transformers' `AutoTokenizer` opens the folder.

    Raises:
        UserError: the folder may not be written, or the disk is full.
    """
    merges = [f"{left} {right}\n" for left, right in vocabulary.merges]
    write_json(directory / "vocab.json", {token: i for i, token in enumerate(vocabulary.tokens)})
    write_text(directory / "merges.txt", "".join([f"{_VERSION_LINE}: 0.2\n", *merges]))
    write_json(directory / "tokenizer_config.json", _tokenizer_config(vocabulary))
    write_json(directory / SINGLE_FILE, tokenizer_json(vocabulary))


def tokenizer_json(vocabulary: Vocabulary, with_special: bool = True) -> dict[str, Any]:
    """The content of tokenizer.json.

    Args:
        vocabulary: what to describe.
        with_special: list the special tokens as such. Readers of the file then find them in any text; without
            them all text is plain text, which is what encoding a corpus wants.
    """
    special = sorted(vocabulary.special.items(), key=lambda item: item[1]) if with_special else []
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    gpt1 = vocabulary.family == "gpt1"
    outside = dict(vocabulary.special) if with_special or gpt1 else {}  # GPT-1's <unk> is part of the model
    ids = vocabulary.ordinary_ids | outside
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **flags} for token, i in special],
        "normalizer": _bert_normalizer() if gpt1 else None,
        "pre_tokenizer": {"type": "BertPreTokenizer"} if gpt1 else _BYTE_LEVEL,
        "post_processor": None,
        "decoder": {"type": "BPEDecoder", "suffix": END_OF_WORD} if gpt1 else _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNKNOWN if gpt1 else None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": END_OF_WORD if gpt1 else "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": dict(sorted(ids.items(), key=lambda item: item[1])),
            "merges": [f"{left} {right}" for left, right in vocabulary.merges],
        },
    }


def _bert_normalizer() -> dict[str, Any]:
    return {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    }


def _tokenizer_config(vocabulary: Vocabulary) -> dict[str, Any]:
    """What tells transformers which class to build."""
    if vocabulary.family == "gpt1":
        return {"tokenizer_class": "OpenAIGPTTokenizer", "unk_token": UNKNOWN}
    config: dict[str, Any] = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}
    if END_OF_TEXT in vocabulary.special:
        config |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    return config


def _read_pair(ids_file: Path, merges_file: Path) -> Vocabulary:
    """A map from token to id and a list of merges; added_tokens.json may lie beside them."""
    ids = _require_object(read_json(ids_file), "a map from token to id", ids_file)
    added_file = ids_file.with_name("added_tokens.json")
    added = _require_object(read_json(added_file), "a map", added_file) if added_file.is_file() else {}
    lines = [line.rstrip("\r") for line in read_text(merges_file).split("\n")]
    merges = [
        _split_merge(line, f"{merges_file}, line {number}")
        for number, line in enumerate(lines, 1)
        if line and not (number == 1 and line.startswith(_VERSION_LINE))
    ]
    return checked_vocabulary(ids | added, merges, added, merges_file)


def _read_single_file(path: Path) -> Vocabulary:
    content = _require_object(read_json(path), "the JSON of a tokenizer", path)
    model = _require_object(content.get("model"), "a 'model'", path)
    _check_kind(content, model, path)
    added = _added_tokens(content, path)
    ids = _require_object(model.get("vocab"), "a 'model.vocab'", path)
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise UserError("there are no 'model.merges'", where=path, fix=_FOR_WHOM)
    pairs = [_split_merge(merge, f"{path}, merge {number}") for number, merge in enumerate(merges, 1)]
    return checked_vocabulary(ids | added, pairs, added, path)


def _added_tokens(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Those outside the model, with their ids."""
    try:
        return {entry["content"]: entry["id"] for entry in content.get("added_tokens") or []}
    except (TypeError, KeyError) as error:
        raise UserError(
            "one of 'added_tokens' has no 'content' or no 'id'", where=path, fix=_RESTORE
        ) from error


def _check_kind(content: Mapping[str, Any], model: Mapping[str, Any], path: Path) -> None:
    """Refuse a tokenizer.json whose model or whose way of cutting text is not GPT-1's or GPT-2's."""
    kind = model.get("type", "BPE")
    if kind != "BPE":
        raise UserError(f"this tokenizer is of the {kind} kind, not BPE", where=path, fix=_FOR_WHOM)
    normalizer, cutter = content.get("normalizer"), content.get("pre_tokenizer")
    if model.get("end_of_word_suffix") == END_OF_WORD:
        if (normalizer or {}).get("type") == "BertNormalizer" and cutter == {"type": "BertPreTokenizer"}:
            return
        raise UserError("it does not lower-case and cut text as GPT-1's does", where=path, fix=_FOR_WHOM)
    steps = cutter.get("pretokenizers", [cutter]) if isinstance(cutter, dict) else []
    if len(steps) != 1 or steps[0].get("type") != "ByteLevel" or not steps[0].get("use_regex", True):
        raise UserError("it does not cut text as GPT-2's tokenizer does", where=path, fix=_FOR_WHOM)
    if steps[0].get("add_prefix_space") or normalizer is not None:
        raise UserError(
            "it changes the text before encoding it, as GPT-2's does not", where=path, fix=_FOR_WHOM
        )


def _require_object(value: object, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise UserError(f"this file does not hold {what}", where=path, fix=_FOR_WHOM)
    return value


def _split_merge(merge: str | Sequence[str], where: str) -> tuple[str, str]:
    """A merge is written ``"Ġ t"`` or ``["Ġ", "t"]``."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, str) and p for p in parts):
        raise UserError(f"{merge!r} is not a pair of tokens", where=where, fix=_RESTORE)
    return parts[0], parts[1]
