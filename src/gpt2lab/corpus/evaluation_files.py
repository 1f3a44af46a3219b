"""What must not stand in the training text: evaluation sets, in whatever shape their files have.

Sets that are known by their files' names are read as they are asked (`data.evaluation_sets`). Of any other
JSON every string counts, whatever its field is called; every other file is one text.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt2lab.base.errors import UserError
from gpt2lab.base.files import decode_utf8
from gpt2lab.corpus.documents import LINES_SUFFIX, files_below
from gpt2lab.corpus.open_files import DamagedFile, open_unpacked
from gpt2lab.data.evaluation_sets import read_known_set

_JSON_SUFFIX = ".json"


def find_evaluation_files(paths: Sequence[Path]) -> list[Path]:
    """The files that paths stand for: of a folder every one below it that is not hidden.

    Raises:
        UserError: there is nothing at a path.
    """
    return [file for path in paths for file, _ in files_below(path, lambda _: "any", "all")]


def evaluation_texts(file: Path) -> Iterator[str]:
    """The texts of one file, packed or not.

    Raises:
        UserError: it is damaged, not UTF-8, or not the JSON that its name says.
    """
    known = read_known_set(file)
    if known is not None:
        yield from known
        return
    text = _read_text(file)
    if LINES_SUFFIX in file.suffixes:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield from _strings(_parse(line, f"{file}:{number}"))
    elif _JSON_SUFFIX in file.suffixes:
        yield from _strings(_parse(text, str(file)))
    else:
        yield text


def _read_text(file: Path) -> str:
    try:
        with open_unpacked(file) as stream:
            return decode_utf8(stream.read(), file).removeprefix("\ufeff")
    except DamagedFile as error:
        raise UserError(
            f"the compressed file is damaged or cut short: {error}", where=file, fix="Fetch it again"
        ) from error


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"this is not valid JSON: {error}", where=where, fix="Fetch the evaluation set again"
        ) from error


def _strings(value: Any) -> Iterator[str]:
    """Every string in what JSON spelt."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
