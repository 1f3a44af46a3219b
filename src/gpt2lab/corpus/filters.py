"""The stage ``filter``: everything that is decided about a document by itself, in one pass over the text.

Its steps stand in the order of the funnel: clean, language, quality, personal data. Each takes a document
out with a reason, changes its text, or leaves it alone.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from gpt2lab.corpus import python_docs
from gpt2lab.corpus.clean import Rule, clean_document, few_letters, first_reason, too_short
from gpt2lab.corpus.documents import Document, Dropped
from gpt2lab.corpus.encoding import repair_mojibake
from gpt2lab.corpus.language import english, language_shares
from gpt2lab.corpus.personal_data import mask_personal_data
from gpt2lab.corpus.quality import PRESETS, filter_quality
from gpt2lab.corpus.stage import Call, Counts
from gpt2lab.corpus.stage_files import StageWriter, read_kept, utf8_length


@dataclass(frozen=True)
class Step:
    """One step of the funnel.

    Attributes:
        name: the stage that dropped documents are said to have been dropped by.
        apply: yields the parts it takes out of a document, and last what becomes of the rest.
        detail: more about a text that was dropped, for people.
    """

    name: str
    apply: Callable[[Document], Iterator[Document | Dropped]]
    detail: Callable[[str], str] | None = None


def filter_file(call: Call) -> Counts:
    """The stage ``filter``: a file of documents to those that every step keeps.

    Parameters: `clean`, `language`, `quality`, `personal_data`: the tables of the recipe.
    """
    steps = _steps(json.dumps(dict(call.parameters)))
    mask = call.parameters["personal_data"]["mask"]
    with StageWriter(call, "filter") as writer:
        for document in read_kept(call.inputs[0]):
            writer.read(utf8_length(document.text))
            left = _filter(document, steps, writer)
            if left and mask:
                left = _masked(left, writer)
            if left:
                writer.keep(left)
    return writer.counts


def _masked(document: Document, writer: StageWriter) -> Document:
    """The document with personal data replaced; what was replaced is counted, and kept nowhere."""
    text, found = mask_personal_data(document.text)
    for kind, number in found.items():
        writer.count_parts("personal_data", kind, number)
    writer.passed("personal_data", utf8_length(text))
    return replace(document, text=text)


def _filter(document: Document, steps: Sequence[Step], writer: StageWriter) -> Document | None:
    """What the steps leave of a document, or None."""
    for step in steps:
        *parts, result = step.apply(document)
        for part in parts:
            assert isinstance(part, Dropped)
            writer.drop_part(document, part.text, part.reason, step.name)
        if isinstance(result, Dropped):
            detail = step.detail(result.text) if step.detail else ""
            writer.drop(document, result.reason, detail, step.name)
            return None
        document = result
        writer.passed(step.name, utf8_length(document.text))
    return document


def _clean(
    document: Document, *, repair: bool, paragraph_rules: Sequence[Rule], document_rules: Sequence[Rule]
) -> Iterator[Document | Dropped]:
    if repair:
        document = replace(document, text=repair_mojibake(document.text))
    yield from clean_document(document, paragraph_rules=paragraph_rules, document_rules=document_rules)


@lru_cache(maxsize=1)
def _steps(parameters: str) -> list[Step]:
    """The steps that a recipe's tables ask for, given as JSON so that they can be remembered."""
    tables = json.loads(parameters)
    clean = tables["clean"]
    paragraph_rules = python_docs.PARAGRAPH_RULES if clean["python_docs"] else ()
    document_rules = [too_short(clean["min_chars"])]
    if clean["min_letters"]:
        document_rules.append(few_letters(clean["min_letters"]))
    cleaner = partial(
        _clean,
        repair=clean["repair_encoding"],
        paragraph_rules=paragraph_rules,
        document_rules=document_rules,
    )
    steps = [Step("clean", cleaner)]
    if tables["language"]["english_only"]:
        steps.append(Step("language", partial(_judge, rules=[english]), _most_of_it))
    if quality := PRESETS[tables["quality"]["rules"]]:
        steps.append(Step("quality", partial(filter_quality, steps=quality)))
    return steps


def _judge(document: Document, rules: Sequence[Rule]) -> Iterator[Document | Dropped]:
    reason = first_reason(document.text, rules)
    yield Dropped(document.id, document.text, reason) if reason else document


def _most_of_it(text: str) -> str:
    """The language of most of a text."""
    return next(iter(language_shares(text)), "")
