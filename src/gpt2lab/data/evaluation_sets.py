"""The texts of evaluation sets, read from a folder of files as they were published.

What is asked of a model, with the right answer where there is one: what must not stand in the training text.
A set is known by its file's name, wherever below the folder it lies; each may be compressed (``.gz``,
``.bz2``, ``.xz``).
"""

import bz2
import gzip
import html
import json
import lzma
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import decode_utf8

_OPENERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}


@dataclass(frozen=True)
class EvaluationSet:
    """One evaluation set.

    Attributes:
        name: of the set and its part: ``"LAMBADA test"``.
        texts: one for each item.
        training: the items of the set's own training part, where that is in the folder.
    """

    name: str
    texts: Sequence[str]
    training: Sequence[str] | None = None


def read_evaluation_sets(folder: Path) -> list[EvaluationSet]:
    """Every known set below `folder`, in the order of the list in this file.

    Raises:
        UserError: there is no such folder, none is in it, or a file is not what its name says.
    """
    if not folder.is_dir():
        raise UserError("no such folder", where=folder, fix="Name a folder that holds evaluation sets")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files.setdefault(_plain_name(path), path)
    sets = [
        EvaluationSet(name, _read(files[file], parse), _own_training(files, training, parse))
        for name, file, training, parse in _KNOWN
        if file in files
    ]
    if not sets:
        known = ", ".join(file for _, file, _, _ in _KNOWN)
        raise UserError(
            "no evaluation set is in this folder", where=folder, fix=f"The known files are {known}"
        )
    return sets


def read_known_set(path: Path) -> Sequence[str] | None:
    """The items of one file, if its name is that of a known set; None for any other file.

    Raises:
        UserError: it is not what its name says.
    """
    name = _plain_name(path)
    return next((_read(path, parse) for _, file, _, parse in _KNOWN if file == name), None)


def _plain_name(path: Path) -> str:
    """The file's name without the ending that says how it is packed."""
    return path.name.removesuffix(path.suffix) if path.suffix in _OPENERS else path.name


def _own_training(
    files: dict[str, Path], name: str | None, parse: Callable[[str], Iterator[str]]
) -> Sequence[str] | None:
    return _read(files[name], parse) if name in files else None


def _read(path: Path, parse: Callable[[str], Iterator[str]]) -> Sequence[str]:
    try:
        data = _OPENERS.get(path.suffix, bytes)(path.read_bytes())
        texts = list(parse(decode_utf8(data, path)))
    except (ValueError, KeyError, IndexError, TypeError, EOFError, OSError, lzma.LZMAError) as error:
        raise UserError(
            f"not what its name says: {type(error).__name__}: {error}",
            where=path,
            fix="Fetch the set again, or take the file away",
        ) from error
    if not texts:
        raise UserError("there is no item in this file", where=path, fix="Fetch the set again")
    return texts


def _records(text: str) -> Iterator[dict[str, Any]]:
    for line in text.split("\n"):
        if line.strip():
            yield json.loads(line)


def _lambada(text: str) -> Iterator[str]:
    """The passage, with its last word."""
    return (record["text"] for record in _records(text))


def _wikitext(text: str) -> Iterator[str]:
    """One article after another; ``= Title =`` between blank lines starts one."""
    lines = "\n" + text.replace("\r\n", "\n")
    articles = re.split(r"(?<=\n \n)(?= = [^=\n]*[^=\n ] = \n \n)", lines)
    return (article for article in articles if article.strip())


def _hellaswag(text: str) -> Iterator[str]:
    """The context with the right ending, from records with `ctx`, `endings` and `label`."""
    return (f"{item['ctx']} {item['endings'][int(item['label'])]}" for item in _records(text))


def _hellaswag_lines(text: str) -> Iterator[str]:
    """The same from six lines an item: the context, the number of the right ending, four endings."""
    lines = text.rstrip("\n").split("\n")
    for start in range(0, len(lines), 6):
        yield f"{lines[start]} {lines[start + 2 + int(lines[start + 1])]}"


def _winograd(text: str) -> Iterator[str]:
    """The sentence, from blocks of sentence, pronoun, candidates, answer; a masked pronoun is the answer."""
    for block in re.split(r"\n\s*\n", text.strip()):
        sentence, _, _, answer = block.split("\n")
        yield sentence.replace("[MASK]", answer.strip())


def _questions(text: str) -> Iterator[str]:
    return (record["question"] for record in _records(text))


def _segments(text: str) -> Iterator[str]:
    """The documents of a WMT file, each with its segments in order."""
    for document in re.findall(r"<doc\b.*?</doc>", text, re.DOTALL | re.IGNORECASE):
        found = re.findall(r"<seg\b[^>]*>(.*?)</seg>", document, re.DOTALL | re.IGNORECASE)
        yield html.unescape("\n".join(segment.strip() for segment in found))


# Name, file, file of the set's own training part, how it is read.
_KNOWN: tuple[tuple[str, str, str | None, Callable[[str], Iterator[str]]], ...] = (
    ("LAMBADA test", "lambada_test.jsonl", None, _lambada),
    ("WikiText test", "wiki.test.raw", "wiki.train.raw", _wikitext),
    ("WikiText validation", "wiki.valid.raw", "wiki.train.raw", _wikitext),
    ("HellaSwag validation", "hellaswag_val.jsonl", "hellaswag_train.jsonl", _hellaswag),
    ("HellaSwag validation", "hellaswag_val_full.txt", None, _hellaswag_lines),
    ("Winograd 273", "wsc273.txt", None, _winograd),
    ("Definite pronouns test", "test.c.txt", "train.c.txt", _winograd),
    ("Natural Questions validation", "NQ-open.dev.jsonl", "NQ-open.train.jsonl", _questions),
    (
        "Natural Questions EfficientQA test",
        "NQ-open.efficientqa.test.1.1.jsonl",
        "NQ-open.train.jsonl",
        _questions,
    ),
    ("WMT 2014 English", "newstest2014-fren-ref.en.sgm", None, _segments),
    ("WMT 2014 French", "newstest2014-fren-ref.fr.sgm", None, _segments),
)
