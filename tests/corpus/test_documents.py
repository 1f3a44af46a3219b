import gzip
import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.corpus.documents import Document, read_documents, write_documents


def _texts(path: Path) -> list[tuple[str, str]]:
    return [(document.id, document.text) for document in read_documents([path])]


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Hello\n", encoding="utf-8")
    assert _texts(tmp_path / "a.md") == [("a.md", "# Hello\n")]


def test_compressed_files_read_as_plain_ones(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("größer".encode()))
    (tmp_path / "b.jsonl.xz").write_bytes(lzma.compress(b'{"text": "one"}\n\n{"text": "two", "id": 7}\n'))
    assert _texts(tmp_path) == [("a.txt.gz", "größer"), ("b.jsonl.xz:1", "one"), ("7", "two")]


def test_a_folder_is_read_in_sorted_order_without_hidden_and_foreign_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/.hidden.txt", ".git/c.txt", "picture.png", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert [identity for identity, _ in _texts(tmp_path)] == ["a/z.txt", "a.txt", "b.txt"]


def test_byte_order_marks_and_windows_line_ends_in_jsonl(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two"}\r\n')
    assert _texts(tmp_path / "a.jsonl") == [("a.jsonl:1", "one"), ("a.jsonl:2", "two")]


def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a\\ud800b \\ud83d\\ude00", "id": "\\udfff"}\n')
    assert _texts(tmp_path / "a.jsonl") == [("\ufffd", "a\ufffdb \U0001f600")]


@pytest.mark.parametrize(
    ("name", "content", "what", "where"),
    [
        ("a.txt", b"", "no text", "a.txt"),
        ("a.txt", b" \n\t\n", "no text", "a.txt"),
        ("a.txt", b"abc\xff", "byte 3 is 0xff", "a.txt"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', "not UTF-8", "a.jsonl:2"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "not valid JSON", "a.jsonl:2"),
        ("a.jsonl", b'{"title": "x", "body": "y"}\n', "it has: title, body", "a.jsonl:1"),
        ("a.jsonl", b'{"text": 3}\n', "holds a string", "a.jsonl:1"),
        ("a.jsonl", b'["text"]\n', "it has: list", "a.jsonl:1"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "not valid JSON", "a.jsonl:1"),
        ("a.jsonl", b"1" * 10_000 + b"\n", "not valid JSON", "a.jsonl:1"),
        ("a.jsonl", b"\n\n", "no text", "a.jsonl"),
        ("a.txt.gz", gzip.compress(b"hello" * 1000, mtime=0)[:-20], "damaged or cut short", "a.txt.gz"),
        ("a.txt.gz", b"plain text", "damaged or cut short", "a.txt.gz"),
        ("a.jsonl.xz", lzma.compress(b'{"text": "x"}')[:-10], "damaged or cut short", "a.jsonl.xz"),
        ("a.jsonl.xz", b"junk", "damaged or cut short", "a.jsonl.xz"),
        ("a.parquet", b"PAR1", "this Parquet file cannot be read: ", "a.parquet"),
        ("noending", b"text", "no ending", "noending"),
    ],
)
def test_bad_files_give_one_clear_error(
    tmp_path: Path, name: str, content: bytes, what: str, where: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
        list(read_documents([tmp_path / name]))
    assert what in raised.value.what
    assert str(raised.value.where).endswith(where)


def test_missing_file_and_folder_without_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        list(read_documents([tmp_path / "absent.txt"]))
    with pytest.raises(UserError, match="no text"):
        list(read_documents([tmp_path]))
    with pytest.raises(UserError, match="no text"):
        list(read_documents([]))


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.jsonl.xz"])
def test_written_documents_read_back_and_are_the_same_bytes_twice(tmp_path: Path, name: str) -> None:
    documents = [Document("1", "line\u2028one\r\n\x00", "here"), Document("ü", '"quoted"\\', "there")]
    for folder in ("x", "y"):
        write_documents(tmp_path / folder / name, documents)
    assert _texts(tmp_path / "x" / name) == [(document.id, document.text) for document in documents]
    assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_zstd_files(tmp_path: Path) -> None:
    zstd = pytest.importorskip("backports.zstd")
    documents = [Document("1", "one", "here"), Document("2", "größer", "there")]
    path = tmp_path / "d.jsonl.zst"
    write_documents(path, documents)
    assert _texts(path) == [("1", "one"), ("2", "größer")]
    for damaged in (path.read_bytes()[:-3], b"junk", zstd.compress(b"x" * 99)[:-9]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged or cut short"):
            _texts(path)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def documents():  # type: ignore[no-untyped-def]
        yield Document("1", "a", "")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_documents(tmp_path / "d.jsonl", documents())
    assert list(tmp_path.iterdir()) == []


@given(text=st.text(st.characters(codec="utf-8")))
def test_any_text_survives_jsonl(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "d.jsonl"
    path.write_text(json.dumps({"text": text}) + '\n{"text": "not blank"}\n', encoding="utf-8")
    assert _texts(path)[0] == ("d.jsonl:1", text)


def test_an_address_is_the_source_of_a_document(tmp_path: Path) -> None:
    lines = ['{"text": "a", "url": "https://example.com"}', '{"text": "b", "url": 3}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    sources = [document.source for document in read_documents([tmp_path / "a.jsonl"])]
    assert sources == ["https://example.com", f"{tmp_path / 'a.jsonl'}:2"]


def test_the_books(test_data: Path) -> None:
    first = next(read_documents([test_data / "text" / "books" / "books-00.jsonl.xz"]))
    assert first.id == "books-00.jsonl.xz:1"
    assert first.text.startswith("I am a rather elderly man.")
