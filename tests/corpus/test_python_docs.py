import ast
import io
import sysconfig
import tokenize
from pathlib import Path

import pytest

from gpt2lab.corpus import python_docs
from gpt2lab.corpus.clean import clean_documents
from gpt2lab.corpus.documents import Document
from gpt2lab.corpus.python_docs import (
    DOCUMENT_RULES,
    PARAGRAPH_RULES,
    english_of_source,
    python_code,
    read_python_docs,
)

_STDLIB = Path(sysconfig.get_path("stdlib"))

_SOURCE = '''#!/usr/bin/env python
# -*- coding: utf-8 -*-
"""What this module is for.

    An indented part.
"""
# ------------------------
# A comment that is long enough to be wrapped because it says
# more than fits on one line.
#
#   and an example

class A:
    """A class."""

    x = """
# not a comment
"""
    y = 1  # beside code

    async def f(self):
        if self.x:
            # Inside a branch.
            def g():
                "Inside a function."
        else:
            pass
'''


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return list(read_python_docs())


def test_docstrings_and_comments_come_out_in_source_order() -> None:
    assert english_of_source(_SOURCE).split("\n\n") == [
        "What this module is for.",
        "An indented part.",
        "A comment that is long enough to be wrapped because it says more than fits on one line.",
        "  and an example",
        "A class.",
        "Inside a branch.",
        "Inside a function.",
    ]


def test_sources_that_are_not_python_are_errors() -> None:
    for source in ("def f(:", "x = '\x00'", "print 'hello'"):
        with pytest.raises((SyntaxError, ValueError)):
            english_of_source(source)


@pytest.mark.parametrize("name", ["textwrap", "difflib", "shlex", "string", "tokenize", "turtle", "pdb"])
def test_comments_are_those_that_the_tokenizer_sees(name: str) -> None:
    source = (_STDLIB / f"{name}.py").read_text(encoding="utf-8")
    tree, lines = ast.parse(source), source.split("\n")
    docstrings = {n for first, last, _ in python_docs._docstrings_in(tree) for n in range(first, last + 1)}
    inside = docstrings | python_docs._inside_other_strings(tree, lines, docstrings)
    found = {
        number
        for number, line in enumerate(lines, 1)
        if line.lstrip().startswith("#") and number not in inside
    }
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    expected = {
        token.start[0]
        for token in tokens
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip()
    }
    assert found == expected
    assert expected


@pytest.mark.parametrize(
    "text",
    [
        ">>> f(1)\n2",
        "x = compute(y)",
        "if not found(x):\n    return None",
        "class A(B):\n    x: int = 0",
        "import os, sys\nprint(os.name)",
        '   stmt ::= "assert" expression',
        "else:\n    f(x)",
    ],
)
def test_code_is_recognised(text: str) -> None:
    assert python_code(text) == "code"


@pytest.mark.parametrize(
    "text",
    [
        "for example:",
        "if the file is missing (see above)",
        "with the following arguments (a, b):",
        "The value (a = b) is used.",
        "Issue #22429: run_forever() was stopped.",
        "Return the index of x.",
        "none or more",
        "See os.path.join().",
        "assert that it is so = that it is not otherwise",
    ],
)
def test_english_is_not_code(text: str) -> None:
    assert python_code(text) is None


def test_the_corpus_is_what_it_says(documents: list[Document]) -> None:
    identities = [document.id for document in documents]
    assert len(set(identities)) == len(identities)
    texts = {document.id: document.text for document in documents}
    assert "assert" in texts["topic:assert"].lower()
    assert "Text wrapping and filling." in texts["module:textwrap"]
    assert "itertools" in " ".join(name for name in texts if name.startswith("module:"))
    assert "Return the absolute value of the argument." in texts["module:builtins"]
    skipped = ("module:test.", "module:encodings", "module:idlelib.idle_test")
    assert not any(name.startswith(skipped) for name in texts)


def test_reading_twice_gives_the_same(documents: list[Document]) -> None:
    assert list(read_python_docs()) == documents


def test_there_are_several_megabytes_of_clean_english(documents: list[Document]) -> None:
    kept, dropped = clean_documents(documents, paragraph_rules=PARAGRAPH_RULES, document_rules=DOCUMENT_RULES)
    modules = [document for document in kept if not document.id.startswith("wheel:")]
    assert sum(len(document.text) for document in modules) > 2_500_000
    assert {text.reason for text in dropped} == {"too_short", "few_letters", "code"}
    letters = [character for document in kept for character in document.text if not character.isspace()]
    assert sum(map(str.isalpha, letters)) > 0.9 * len(letters)


def test_an_installation_without_the_optional_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text('"""A module."""\n', encoding="utf-8")
    (tmp_path / "newer.py").write_text("match lines with them\n", encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\n# caf\xe9 comments here\n")
    (tmp_path / "wrong.py").write_bytes(b"# caf\xe9\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "skipped.py").write_text('"""No."""\n', encoding="utf-8")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    monkeypatch.setattr("sys.stdlib_module_names", frozenset({"math", "no_such_module"}))
    found = {document.id: document.text for document in read_python_docs()}
    assert list(found) == ["module:good", "module:latin", "module:math"]
    assert found["module:latin"] == "café comments here"
    assert "square root" in found["module:math"]
