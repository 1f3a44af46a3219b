"""The embedded corpus: the English that every Python installation carries, no network and no files needed.

Three parts, each document read from the interpreter that runs this:

- ``topic:NAME``: the language reference, as ``help("NAME")`` shows it (`pydoc_data.topics`);
- ``module:NAME``: docstrings and comments of one module of the standard library, in source order; for
  modules written in C, the docstrings that their objects carry;
- ``wheel:PACKAGE:MODULE``: the same of the installer that `ensurepip` puts into virtual environments, read
  inside its wheel file.

What it holds differs a little between Python versions and builds; on one machine it is always the same.
"""

import ast
import importlib
import importlib.util
import inspect
import os
import re
import sys
import sysconfig
import textwrap
import types
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from gpt2lab.corpus.clean import Rule, few_letters, normalise_text, paragraphs, too_short, unwrap_lines
from gpt2lab.corpus.documents import Document

# Not English, or not part of every installation: tests, tables of character sets, generated files.
_SKIPPED_FOLDERS = {
    "site-packages", "dist-packages", "__pycache__", "lib-dynload", "encodings", "pydoc_data",
    "test", "tests", "idle_test",
}  # fmt: skip

_HAS_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_COMMENT_MARK = re.compile(r"#+:?[ \t]?")
_TOOL_NOTE = re.compile(r"-\*-|type: |noqa|pragma|pylint|mypy|fmt: |!")  # comments meant for programs
_RULE_LINE = re.compile(
    r"^[ \t]*([-=*~^#_+.`\"'])\1{3,}[ \t]*\n?", re.MULTILINE
)  # under a heading, round a box
_NEVER_ENGLISH = re.compile(  # a doctest, a decorator, half of a statement, a rule of a grammar
    r"\s*(>>>|\.\.\. |@\w+(\(|$)|(else|try|finally):$|(elif|except)\b.*:$)|.*::= "
)
_STATEMENTS = (
    ast.Assign, ast.AugAssign, ast.Call, ast.ClassDef, ast.Compare, ast.Delete, ast.FunctionDef, ast.Import,
    ast.ImportFrom, ast.Raise, ast.Return, ast.Subscript,
)  # fmt: skip


def read_python_docs() -> Iterator[Document]:
    """Every document of the embedded corpus, always in the same order."""
    yield from _topics()
    yield from _modules()
    yield from _extension_modules()
    yield from _bundled_wheels()


def python_code(text: str) -> str | None:
    """Reason ``code``: this paragraph, or most of its lines, is Python rather than English."""
    lines = text.split("\n")
    n_code = sum(1 for line in lines if _NEVER_ENGLISH.match(line) or _is_statement(line.strip()))
    doctest = lines[0].lstrip().startswith(">>>")  # what it prints is no English either
    return "code" if doctest or 2 * n_code > len(lines) or _is_statement(text) else None


def _is_statement(text: str) -> bool:
    """Whether `text` is Python that does something: "if not found:" is, and "for example:" is not."""
    if not any(mark in text for mark in "=([."):  # without one of these it may well be a sentence
        return False
    try:
        tree = _parse(textwrap.dedent(text) + (" pass" if text.endswith(":") else ""))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, _STATEMENTS) for node in ast.walk(tree))


PARAGRAPH_RULES: tuple[Rule, ...] = (too_short(30), few_letters(0.8), python_code)
DOCUMENT_RULES: tuple[Rule, ...] = (too_short(200),)


def english_of_source(source: str) -> str:
    """The docstrings and comments of Python `source`, in its order, as paragraphs.

    Comments that share a line with code are left out: they are rarely sentences.

    Raises:
        SyntaxError, ValueError: it is not Python of this version.
    """
    tree = _parse(source)
    lines = re.split(r"\r\n?|\n", source)
    pieces = []
    inside_docstrings: set[int] = set()
    for first, last, docstring in _docstrings_in(tree):
        pieces.append((first, docstring))
        inside_docstrings.update(range(first, last + 1))
    pieces.extend(_comments(lines, inside_docstrings | _inside_other_strings(tree, lines, inside_docstrings)))
    return "\n\n".join(filter(None, (_reflow(text) for _, text in sorted(pieces))))


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old sources hold escapes that newer Pythons warn of
        return ast.parse(source)


def _docstrings_in(tree: ast.Module) -> Iterator[tuple[int, int, str]]:
    """The first line, the last line and the text of each docstring."""
    statements: list[Any] = [tree]
    for node in statements:  # grows as it is read; expressions, most of a tree, are never looked at
        if isinstance(node, _HAS_DOCSTRING) and (docstring := ast.get_docstring(node)):
            yield node.body[0].lineno, node.body[0].end_lineno or 0, docstring
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            statements.extend(getattr(node, field, ()))


def _inside_other_strings(tree: ast.Module, lines: list[str], inside_docstrings: set[int]) -> set[int]:
    """Numbers of the lines that start inside a string: a ``#`` there starts no comment."""
    if not any(
        '"""' in line or "'''" in line or line.endswith("\\")
        for number, line in enumerate(lines, 1)
        if number not in inside_docstrings
    ):
        return set()  # most modules: this spares them the walk through every expression
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno:
            inside.update(range(node.lineno + 1, node.end_lineno + 1))
    return inside


def _comments(lines: list[str], inside_strings: set[int]) -> Iterator[tuple[int, str]]:
    """Blocks of whole-line comments at one margin: the number of the first line, and the text."""
    block: list[str] = []
    start, margin = 0, ""
    for number, line in enumerate([*lines, ""], 1):
        code, mark, _ = line.partition("#")
        is_comment = bool(mark) and not code.strip() and number not in inside_strings
        if block and not (is_comment and code == margin):
            yield start, "\n".join(block)
            block = []
        if is_comment:
            if not block:
                start, margin = number, code
            block.append(_comment_text(line))


def _comment_text(line: str) -> str:
    """What a comment line says: nothing if it is a rule of dashes or a note to some program."""
    text = _COMMENT_MARK.sub("", line.lstrip(), count=1).rstrip(" \t#-=*~")
    return "" if _TOOL_NOTE.match(text) or not any(map(str.isalpha, text)) else text


def _reflow(text: str) -> str:
    without_rules = _RULE_LINE.sub("", normalise_text(text))
    return "\n\n".join(map(unwrap_lines, paragraphs(without_rules)))


def _topics() -> Iterator[Document]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some minimal installations leave it out
        return
    for name, text in sorted(topics.items()):
        yield Document(f"topic:{name}", _reflow(text), "pydoc_data.topics")


def _modules() -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name.isidentifier() and name not in _SKIPPED_FOLDERS)
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix == ".py":
                inner = path.relative_to(root).as_posix()
                yield from _source_document("module:", inner, path.read_bytes(), str(path))


def _source_document(prefix: str, inner: str, data: bytes, source: str) -> Iterator[Document]:
    """One module as a document; none if this version of Python cannot read it."""
    name = inner.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    try:
        text = english_of_source(importlib.util.decode_source(data))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    yield Document(prefix + name, text, source)


def _extension_modules() -> Iterator[Document]:
    for name in sorted(sys.stdlib_module_names):
        module = _import_extension(name)
        if module:
            docstrings = dict.fromkeys(_docstrings_of(module))  # inherited ones say the same again
            text = "\n\n".join(filter(None, (_reflow(inspect.cleandoc(text)) for text in docstrings)))
            yield Document(f"module:{name}", text, f"docstrings of {name}")


def _import_extension(name: str) -> types.ModuleType | None:
    """The standard module `name` if it is written in C and not a test of Python's own."""
    # readline writes to the terminal when it is imported.
    if name == "readline" or name.startswith(("_test", "_xx", "xx", "_ctypes_test")):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated modules say so on import
        try:
            spec = importlib.util.find_spec(name)
            origin = spec.origin if spec else None
            if origin == "built-in" or (origin and origin.endswith(tuple(EXTENSION_SUFFIXES))):
                return importlib.import_module(name)
        except (ImportError, ValueError, OSError):  # a library that it needs is not installed here
            pass
    return None


def _docstrings_of(module: types.ModuleType) -> Iterator[str]:
    """The docstrings of a C module, its functions, its classes and their members, as they are defined."""
    yield from _docstring(module)
    for member in vars(module).values():
        if isinstance(member, type) and member.__module__ in (module.__name__, "builtins"):
            yield from _docstring(member)
            for attribute in vars(member).values():
                # Slot wrappers repeat one stock phrase ("Return self+value.") in every class.
                if not isinstance(attribute, types.WrapperDescriptorType):
                    yield from _docstring(attribute)
        elif isinstance(member, types.BuiltinFunctionType):
            yield from _docstring(member)


def _docstring(thing: object) -> Iterable[str]:
    """`thing`'s docstring, if it has one of its own rather than that of its class."""
    docstring = getattr(thing, "__doc__", None)
    if isinstance(docstring, str) and docstring != type(thing).__doc__:
        yield docstring


def _bundled_wheels() -> Iterator[Document]:
    """The installers that `ensurepip` holds; Debian keeps them in a folder of their own."""
    folders = [Path(sysconfig.get_path("stdlib"), "ensurepip", "_bundled")]
    if elsewhere := sysconfig.get_config_var("WHEEL_PKG_DIR"):
        folders.append(Path(elsewhere))
    wheels = {wheel.name.split("-")[0]: wheel for folder in folders for wheel in sorted(folder.glob("*.whl"))}
    for package in sorted({"pip", "setuptools"} & set(wheels)):
        with zipfile.ZipFile(wheels[package]) as archive:
            for inner in sorted(archive.namelist()):
                if inner.endswith(".py"):
                    source = f"{wheels[package]}/{inner}"
                    yield from _source_document(f"wheel:{package}:", inner, archive.read(inner), source)
