"""Cleaning: put a text into one plain shape, and say of what is no text why it goes.

GPT-2 was trained on text as it stood, so little is changed here: letters, accents, quotation marks, case
and Unicode forms stay as they were written. What goes is what no reader sees (control characters, spaces
at the ends of lines, a common margin) and what differs between machines (line ends).

A rule looks at a text and returns None, or one word for why it should go. Nothing is dropped in silence.
"""

import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from gpt2lab.corpus.documents import Document, Dropped, is_blank

Rule = Callable[[str], str | None]

_LINE_ENDS = re.compile(r"\r\n?|\f")  # a form feed starts a new page, so it ends a line too
_CONTROL = bytes([*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F])
_NO_CHARACTERS = ("\ufeff", "\ufffe", "\uffff")
_MANY_BLANK_LINES = re.compile(r"\n{4,}")
_LINE_WITHOUT_MARGIN = re.compile(r"^[^ \t\n]", re.MULTILINE)
_PARAGRAPH_BREAK = re.compile(r"\n[ \t]*\n\s*?(?=[^\n\S]*\S)")
_LIST_ITEM = re.compile(r"\s*([-*+•·]|\d+[.)]|\(?[a-z\d][.)]|>>>|\.\.\.|[@:|#])(\s|$|(?<=[@:]))")
_MIN_WRAPPED_LINE = 45  # characters; a shorter line was ended on purpose, not for want of room


def normalise_text(text: str) -> str:
    """One plain shape for `text`; doing it twice changes nothing more.

    Unix line ends; no control characters (tabs stay); no spaces at line ends; at most two blank lines in a
    row; no margin common to all lines; no blank lines around it all.
    """
    # Looking for what a pattern begins with is ten times as fast as the pattern; most texts hold none of it.
    if "\r" in text or "\f" in text:
        text = _LINE_ENDS.sub("\n", text)
    text = text.encode("utf-8", "surrogatepass").translate(None, _CONTROL).decode("utf-8", "surrogatepass")
    for character in _NO_CHARACTERS:
        text = text.replace(character, "")
    if " \n" in text or "\t\n" in text or text.endswith((" ", "\t")):
        text = "\n".join([line.rstrip(" \t") for line in text.split("\n")])
    if "\n\n\n\n" in text:
        text = _MANY_BLANK_LINES.sub("\n\n\n", text)
    if not _LINE_WITHOUT_MARGIN.search(text):
        text = textwrap.dedent(text)
    return text.strip("\n")


def paragraphs(text: str) -> list[str]:
    """The pieces of `text` between blank lines, none of them blank, each with its own line breaks."""
    return [piece for piece in _PARAGRAPH_BREAK.split(text.lstrip("\n").rstrip()) if not is_blank(piece)]


def unwrap_lines(paragraph: str) -> str:
    """Take out the line breaks that were only made to keep lines short; keep those of lists and code.

    A break goes where the line before it had no room left for the next line's first word, and the next line
    neither starts a list item nor changes the indentation.
    """
    lines = paragraph.split("\n")
    width = max(map(len, lines))
    joined = [lines[0]]
    for line, following in itertools.pairwise(lines):
        words = following.split(maxsplit=1)
        no_room = bool(words) and len(line) >= _MIN_WRAPPED_LINE and len(line) + 1 + len(words[0]) > width
        if no_room and not _LIST_ITEM.match(following) and _continues(line, following):
            joined[-1] += " " + following.strip()
        else:
            joined.append(following)
    return "\n".join(joined)


def _continues(line: str, following: str) -> bool:
    """Whether `following` stands where the next line of the same sentence would stand."""
    deeper = _indentation(following) - _indentation(line)
    return deeper > 0 if _LIST_ITEM.match(line) else deeper == 0


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def blank(text: str) -> str | None:
    """Reason ``blank``: there is nothing to read."""
    return "blank" if is_blank(text) else None


def too_short(min_chars: int) -> Rule:
    """A rule with the reason ``too_short``: fewer than `min_chars` characters."""
    return lambda text: "too_short" if len(text) < min_chars else None


def few_letters(min_share: float) -> Rule:
    """A rule with the reason ``few_letters``: tables, numbers, drawings rather than words.

    Args:
        min_share: of the characters that are not spaces, the least share that must be letters.
    """

    def rule(text: str) -> str | None:
        visible = "".join(text.split())
        letters = sum(map(str.isalpha, visible))
        return "few_letters" if letters < min_share * len(visible) else None

    return rule


def first_reason(text: str, rules: Iterable[Rule]) -> str | None:
    """What the first rule that objects to `text` says; None if none does."""
    return next((reason for rule in rules if (reason := rule(text))), None)


def clean_document(
    document: Document, *, paragraph_rules: Sequence[Rule] = (), document_rules: Sequence[Rule] = (blank,)
) -> Iterator[Document | Dropped]:
    """Normalise one document; yield what was taken out of it, each with its reason, and then the rest.

    Args:
        document: as it was read.
        paragraph_rules: a paragraph to which one of them objects is taken out.
        document_rules: asked of what is left; if one objects, the document is dropped.
    """
    text = normalise_text(document.text)
    if paragraph_rules:
        kept = []
        for paragraph in paragraphs(text):
            if reason := first_reason(paragraph, paragraph_rules):
                yield Dropped(document.id, paragraph, reason)
            else:
                kept.append(paragraph)
        text = "\n\n".join(kept)
    if reason := first_reason(text, document_rules):
        yield Dropped(document.id, text, reason)
    else:
        yield replace(document, text=text)


def clean_documents(
    documents: Iterable[Document],
    *,
    paragraph_rules: Sequence[Rule] = (),
    document_rules: Sequence[Rule] = (blank,),
) -> tuple[list[Document], list[Dropped]]:
    """`clean_document` over many: the documents that are left, and everything that went."""
    kept, dropped = [], []
    for document in documents:
        for result in clean_document(
            document, paragraph_rules=paragraph_rules, document_rules=document_rules
        ):
            if isinstance(result, Dropped):
                dropped.append(result)
            else:
                kept.append(result)
    return kept, dropped
