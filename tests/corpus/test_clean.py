import re
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.corpus.clean import (
    blank,
    clean_document,
    clean_documents,
    few_letters,
    first_reason,
    normalise_text,
    paragraphs,
    too_short,
    unwrap_lines,
)
from gpt2lab.corpus.documents import Document, Dropped

_MESSY = st.text(st.sampled_from(" \t\n\r\f\x00\x0b\x85abä\u0301-*\ufeff>"), max_size=60)


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("a\r\nb\rc\n", "a\nb\nc"),
        ("page one\fpage two", "page one\npage two"),
        ("a\x00b\x1bc\td", "abc\td"),
        ("\ufeffa  \nb\t\n", "a\nb"),
        ("a\n\n\n\n\n\nb", "a\n\n\nb"),
        ("    def f():\n        pass\n", "def f():\n    pass"),
        ("\n\n  \n", ""),
        ("e\u0301 is not \u00e9", "e\u0301 is not \u00e9"),  # Unicode forms stay: GPT-2 kept them apart too
    ],
)
def test_normalise_text(raw: str, plain: str) -> None:
    assert normalise_text(raw) == plain


@given(_MESSY)
def test_normalising_twice_changes_nothing_more_and_keeps_every_letter(text: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert [c for c in once if c.isalpha()] == [c for c in text if c.isalpha()]


@given(_MESSY)
def test_paragraphs_hold_all_that_is_visible_and_no_blank_line(text: str) -> None:
    plain = normalise_text(text)
    pieces = paragraphs(plain)
    assert "".join("".join(pieces).split()) == "".join(plain.split())
    assert all(line.strip(" \t") for piece in pieces for line in piece.split("\n"))


def test_paragraphs_keep_their_indentation() -> None:
    assert paragraphs("a\nb\n\n    c\n      d\n \n\ne") == ["a\nb", "    c\n      d", "e"]


def test_wrapped_lines_are_joined_and_lists_are_not() -> None:
    prose = (
        "The quick brown fox jumps over the lazy dog, and then it does so\n"
        "again for no reason that anyone could give a name to, and leaves."
    )
    assert "\n" not in unwrap_lines(prose)
    for kept in ("name: a\nvalue: b", prose.replace("\nagain", "\n- again"), prose.replace("\n", "\n    ")):
        assert unwrap_lines(kept) == kept
    item = (
        "- The quick brown fox jumps over the lazy dog, and then it does so\n"
        "  again for no reason that anyone could give a name to, and leaves."
    )
    assert "\n" not in unwrap_lines(item)


@given(st.text(st.sampled_from("ab -.\n"), max_size=300))
def test_unwrapping_changes_only_white_space(text: str) -> None:
    assert unwrap_lines(text).split() == text.split()


def test_rules_say_why() -> None:
    assert blank(" \n") == "blank"
    assert blank("x") is None
    assert too_short(4)("abc") == "too_short"
    assert too_short(4)("abcd") is None
    assert few_letters(0.5)("0x7f 0x80 0x81") == "few_letters"
    assert few_letters(0.5)("Ceci n'est pas une table.") is None
    assert few_letters(0.5)("") is None
    assert first_reason("1", [too_short(1), few_letters(0.5), blank]) == "few_letters"


def test_dropped_paragraphs_and_documents_are_kept_apart_with_their_reason() -> None:
    documents = [
        Document("1", "Some words here.\n\n0 1 2 3 4 5 6 7\n\nMore words.", ""),
        Document("2", "0 1 2 3\n\n4 5 6 7", ""),
        Document("3", "\r\n", ""),
    ]
    kept, dropped = clean_documents(documents, paragraph_rules=[few_letters(0.5)])
    assert kept == [Document("1", "Some words here.\n\nMore words.", "")]
    assert [(d.id, d.reason) for d in dropped] == [
        ("1", "few_letters"),
        ("2", "few_letters"),
        ("2", "few_letters"),
        ("2", "blank"),
        ("3", "blank"),
    ]


def test_without_paragraph_rules_the_layout_stays() -> None:
    text = "a\n\n\n  b"
    assert list(clean_document(Document("1", text, ""))) == [Document("1", text, "")]
    assert isinstance(next(clean_document(Document("1", "", ""))), Dropped)


@given(st.text(" \t\n\r\f\vab\x00\x7f\x85\u00a0\u2028\ufeff\ud800", max_size=40))
def test_normalising_equals_the_plain_definition(text: str) -> None:
    """What is looked for first, to be quick, decides nothing."""
    plain = re.sub(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\ufffe\uffff]", "", re.sub(r"\r\n?|\f", "\n", text))
    plain = re.sub(r"\n{4,}", "\n\n\n", re.sub(r"[ \t]+$", "", plain, flags=re.MULTILINE))
    assert normalise_text(text) == textwrap.dedent(plain).strip("\n")
