import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.corpus.encoding import decode_page, repair_mojibake

pytest.importorskip("resiliparse")
pytest.importorskip("ftfy")

ENGLISH = "“All human beings” are born free — and equal in dignity: naïve, café. " * 20


@pytest.mark.parametrize(
    ("encoding", "charset"),
    [
        ("utf-8", None),
        ("utf-8", "iso-8859-1"),  # the server is wrong
        ("utf-8", "windows-1251"),
        ("utf-8-sig", "latin1"),
        ("utf-16", "utf-8"),
        ("utf-16-le", None),
        ("utf-16-be", "utf-16"),
        ("cp1252", None),
        ("cp1252", "ISO-8859-1"),  # means cp1252 on the web
        ("cp1252", "utf-8"),
        ("cp1252", "no-such-encoding"),
        ("cp1252", "unicode_escape"),  # Python's own names are not the web's
        ("cp1252", "utf-7"),
        ("cp1252", "\x00\ud800"),
    ],
)
def test_english_is_read_whatever_the_server_says(encoding: str, charset: str | None) -> None:
    decoded = decode_page(ENGLISH.encode(encoding), charset)
    assert (decoded.text, decoded.reason) == (ENGLISH, None)


@pytest.mark.parametrize(
    ("language", "encoding"),
    [
        ("rus", "cp1251"), ("rus", "koi8-r"), ("jpn", "shift_jis"), ("jpn", "euc_jp"), ("jpn", "iso2022_jp"),
        ("cmn_hans", "gb18030"), ("cmn_hant", "big5"),
        ("pol", "cp1250"), ("heb", "cp1255"), ("tha", "tis-620"),
    ],
)  # fmt: skip
def test_encodings_are_known_by_their_looks(test_data: Path, language: str, encoding: str) -> None:
    with zipfile.ZipFile(test_data / "web/langid_udhr/udhr2.zip") as archive:
        name = next(name for name in archive.namelist() if Path(name).stem == language)
        body = archive.read(name).decode()[:4000].encode(encoding, "ignore")
    decoded = decode_page(body, None)
    assert (decoded.text, decoded.reason) == (body.decode(encoding), None)


def test_the_page_itself_may_say_its_encoding() -> None:
    html = '<html><head><META content="text/html; charset=koi8-r"></head><body>Добрый день'
    assert decode_page(html.encode("koi8-r"), "utf-8").text == html


def test_utf_8_with_a_few_bad_bytes_is_still_utf_8() -> None:
    body = ENGLISH.encode()
    cut = body[: body.rindex("é".encode()) + 1]
    assert decode_page(cut, None).text.startswith(ENGLISH[:1000])
    assert decode_page(body + b"\xff\xa0", "iso-8859-1").text == ENGLISH + "\ufffd\ufffd"


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        ("not_text", bytes(range(256)) * 40),
        ("not_text", b"\x89PNG\r\n\x1a\n" + bytes(range(0, 256, 3)) * 40),
        ("not_text", b"text \x00\x01\x02" * 500),
        ("not_text", b"\0" * 500 + b"text"),
        ("bad_encoding", b"\xef\xbb\xbf" + b"abc\xff\xfe\x80" * 100),
    ],
)
def test_what_is_no_text_has_a_reason(reason: str, body: bytes) -> None:
    assert decode_page(body, None).reason == reason


def test_a_stray_zero_byte_does_not_condemn_a_page() -> None:
    assert decode_page(b"\0" + ENGLISH.encode() + b"\0", None).reason is None


@pytest.mark.parametrize("text", ["café", "It’s “so” — really…", "naïve Ångström", "plain", "Ação e reação"])
def test_mojibake_is_repaired_and_text_that_is_right_stays(text: str) -> None:
    assert repair_mojibake(text) == text
    assert repair_mojibake(f"He said: {text}".encode().decode("latin-1")) == f"He said: {text}"


@given(st.binary(max_size=300), st.none() | st.text(max_size=12))
def test_any_bytes_give_an_answer(body: bytes, charset: str | None) -> None:
    decoded = decode_page(body, charset)
    decoded.text.encode("utf-8")


@given(st.text(min_size=1))
def test_utf_8_comes_back_as_it_was(text: str) -> None:
    if "\x1b$" not in text and not text.startswith("\ufeff") and repair_mojibake(text) == text:
        decoded = decode_page(text.encode("utf-8", "replace"), None)
        if decoded.encoding == "utf-8":
            assert decoded.text == text.encode("utf-8", "replace").decode()
