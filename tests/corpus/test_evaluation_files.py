import bz2
import gzip
import json
from pathlib import Path

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.corpus.evaluation_files import evaluation_texts, find_evaluation_files


def texts_of(file: Path, content: str) -> list[str]:
    file.write_text(content, encoding="utf-8")
    return list(evaluation_texts(file))


def test_every_string_of_json_counts(tmp_path: Path) -> None:
    item = {"ctx": "He went", "endings": ["home.", "away."], "label": 1, "meta": {"by": "someone", "n": None}}
    assert texts_of(tmp_path / "a.jsonl", json.dumps(item) + '\n\n"and this"\n') == [
        "He went",
        "home.",
        "away.",
        "someone",
        "and this",
    ]
    assert texts_of(tmp_path / "b.json", json.dumps([item, {"question": "Who?"}]))[-1] == "Who?"


def test_every_other_file_is_one_text_however_it_is_packed(tmp_path: Path) -> None:
    text = "id\tTheir question\n1\tWhy?\n"
    assert texts_of(tmp_path / "a.tsv", "\ufeff" + text) == [text]
    for name, pack in (("a.txt.gz", gzip.compress), ("a.raw.bz2", bz2.compress)):
        (tmp_path / name).write_bytes(pack(text.encode()))
        assert list(evaluation_texts(tmp_path / name)) == [text]


def test_a_known_set_is_read_as_it_is_asked(tmp_path: Path) -> None:
    item = {"ctx": "He went", "endings": ["home.", "away."], "label": 1}
    assert texts_of(tmp_path / "hellaswag_val.jsonl", json.dumps(item)) == ["He went away."]


def test_a_folder_stands_for_all_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.sgm", "inner/a.tsv", ".hidden"):
        (tmp_path / name).touch()
    assert find_evaluation_files([tmp_path, tmp_path / "b.sgm"]) == [
        tmp_path / "b.sgm",
        tmp_path / "inner/a.tsv",
        tmp_path / "b.sgm",
    ]
    with pytest.raises(UserError, match="no such file or folder"):
        find_evaluation_files([tmp_path / "none"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"question": "Who?"}\n{"question": \n', "not valid JSON"),
        ("a.json", b"[" * 100_000, "not valid JSON"),
        ("a.txt", b"caf\xe9", "not UTF-8"),
        ("a.txt.gz", gzip.compress(b"text " * 1000, mtime=0)[:-20], "damaged or cut short"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(evaluation_texts(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in error.value.what


def test_the_published_sets_are_all_read(test_data: Path) -> None:
    files = find_evaluation_files([test_data / "evaluation"])
    assert len(files) > 20
    assert all(any(text.strip() for text in evaluation_texts(file)) for file in files)
