"""Quality rules that others published, with their thresholds and where those stand.

- Gopher: Rae et al., "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", 2021,
  appendix A.1.1: "quality filtering" and "repetition removal" (table A1).
- C4: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
  2020, section 2.2; where it differs from the code that made the data set (`c4_utils.py` in TensorFlow
  Datasets) the code counts. Without its list of bad words, which drops much that is harmless.
- FineWeb: Penedo et al., "The FineWeb Datasets", 2024, section 3.6.

A word of these rules is what stands between white space; in repetition, a run of letters and digits.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from gpt2lab.corpus.clean import Rule, first_reason
from gpt2lab.corpus.documents import Document, Dropped
from gpt2lab.corpus.text_measures import TextMeasures


@dataclass(frozen=True)
class QualityRule:
    """One published rule.

    Attributes:
        reason: what a document is dropped with.
        objects: whether the rule is broken.
    """

    reason: str
    objects: Callable[[TextMeasures], bool]


@dataclass(frozen=True)
class QualityStep:
    """Lines to which a line rule objects are taken out; then the rules are asked of what is left."""

    line_rules: tuple[Rule, ...]
    rules: tuple[QualityRule, ...]


_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
_BULLETS = ("•", "-", "*", "‣", "▪", "●", "○", "·")
_ELLIPSES = ("...", "…")

GOPHER_QUALITY = (
    QualityRule("gopher_few_words", lambda text: len(text.tokens) < 50),
    QualityRule("gopher_many_words", lambda text: len(text.tokens) > 100_000),
    QualityRule("gopher_short_words", lambda text: text.mean_token_chars < 3),
    QualityRule("gopher_long_words", lambda text: text.mean_token_chars > 10),
    QualityRule("gopher_hashes", lambda text: text.symbols_per_token("#") > 0.1),
    QualityRule("gopher_ellipses", lambda text: text.symbols_per_token(*_ELLIPSES) > 0.1),
    QualityRule("gopher_bullet_lines", lambda text: text.share_of_lines_starting(*_BULLETS) > 0.9),
    QualityRule("gopher_ellipsis_lines", lambda text: text.share_of_lines_ending(*_ELLIPSES) > 0.3),
    QualityRule("gopher_few_letters", lambda text: not text.enough_tokens_have_letters(0.8)),
    QualityRule("gopher_few_stop_words", lambda text: len(_STOP_WORDS.intersection(text.tokens)) < 2),
)


def _top_ngram(n: int, most: float) -> QualityRule:
    return QualityRule(f"gopher_top_{n}_gram", lambda text: text.top_ngram_fills(n, most))


def _repeated_ngrams(most: dict[int, float]) -> QualityRule:
    """Longer runs lie inside shorter ones, so they fill no more: of most texts one n is looked at."""
    first, least = min(most), min(most.values())

    def objects(text: TextMeasures) -> bool:
        if text.most_in_repeated_ngrams(first) <= least:
            return False
        return any(text.share_in_repeated_ngrams(n) > limit for n, limit in most.items())

    return QualityRule("gopher_repeated_ngrams", objects)


GOPHER_REPETITION = (
    QualityRule("gopher_repeated_lines", lambda text: text.repeated_lines[0] > 0.30),
    QualityRule("gopher_repeated_line_chars", lambda text: text.repeated_lines[1] > 0.20),
    QualityRule("gopher_repeated_paragraphs", lambda text: text.repeated_paragraphs[0] > 0.30),
    QualityRule("gopher_repeated_paragraph_chars", lambda text: text.repeated_paragraphs[1] > 0.20),
    _top_ngram(2, 0.20),
    _top_ngram(3, 0.18),
    _top_ngram(4, 0.16),
    _repeated_ngrams({5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}),
)

_TERMINALS = (".", "!", "?", '"', "”")
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def unfinished_line(line: str) -> str | None:
    """Reason ``c4_no_terminal_punctuation``: it does not end as a sentence ends, or trails off in dots."""
    ends = line.endswith(_TERMINALS) and not line.endswith("...")
    return None if ends else "c4_no_terminal_punctuation"


def few_words_line(line: str) -> str | None:
    """Reason ``c4_few_words``: fewer than 3 words."""
    return "c4_few_words" if len(line.split(maxsplit=2)) < 3 else None


def long_word_line(line: str) -> str | None:
    """Reason ``c4_long_word``: a word of more than 1,000 characters."""
    is_long = len(line) > 1000 and max(map(len, line.split())) > 1000
    return "c4_long_word" if is_long else None


def script_line(line: str) -> str | None:
    """Reason ``c4_javascript``: it speaks of JavaScript, mostly to ask for it to be switched on."""
    return "c4_javascript" if "javascript" in line.lower() else None


def policy_line(line: str) -> str | None:
    """Reason ``c4_policy``: cookies, privacy, terms of use."""
    small = line.lower()
    return "c4_policy" if any(phrase in small for phrase in _POLICY) else None


_C4_LINES: tuple[Rule, ...] = (long_word_line, few_words_line, script_line, policy_line)
_C4_PAGE = (
    QualityRule("c4_lorem_ipsum", lambda text: "lorem ipsum" in text.text.lower()),
    QualityRule("c4_curly_bracket", lambda text: "{" in text.text),
)
_C4_SENTENCES = (QualityRule("c4_few_sentences", lambda text: text.n_sentences < 5),)

FINEWEB = (
    QualityRule("fineweb_line_ends", lambda text: text.share_of_lines_ending(*_TERMINALS) <= 0.12),
    QualityRule("fineweb_repeated_line_chars", lambda text: text.repeated_lines[1] >= 0.1),
    QualityRule("fineweb_short_lines", lambda text: text.share_of_lines_up_to(29) >= 0.67),
)

PRESETS: dict[str, tuple[QualityStep, ...]] = {
    "webtext": (),  # the paper names none: people's votes stand for quality
    "gopher": (QualityStep((), GOPHER_QUALITY + GOPHER_REPETITION),),
    "c4": (QualityStep((), _C4_PAGE), QualityStep((unfinished_line, *_C4_LINES), _C4_SENTENCES)),
    "fineweb": (
        QualityStep((), GOPHER_QUALITY + GOPHER_REPETITION + _C4_PAGE),
        QualityStep(_C4_LINES, _C4_SENTENCES + FINEWEB),  # "all C4 filters but terminal punctuation"
    ),
}


def quality_reason(text: str, rules: Sequence[QualityRule]) -> str | None:
    """What the first rule that objects to `text` says; None if none does."""
    measures = TextMeasures(text)
    return next((rule.reason for rule in rules if rule.objects(measures)), None)


def filter_quality(document: Document, steps: Sequence[QualityStep]) -> Iterator[Document | Dropped]:
    """Yield what the steps take out of one document, each with its reason, and then what is left, if any.

    Lines that one rule takes out come back together, as one text.
    """
    text = document.text
    for step in steps:
        if step.line_rules:
            text, taken = _take_lines_out(text, step.line_rules)
            for reason, lines in taken.items():
                yield Dropped(document.id, "\n".join(lines), reason)
        if (objection := quality_reason(text, step.rules)) is not None:
            yield Dropped(document.id, text, objection)
            return
    yield replace(document, text=text)


def _take_lines_out(text: str, rules: Sequence[Rule]) -> tuple[str, dict[str, list[str]]]:
    """The text without the lines that a rule objects to, and those by reason; blank lines stay."""
    kept: list[str] = []
    taken: dict[str, list[str]] = {}
    for line in text.split("\n"):
        bare = line.strip()
        reason = first_reason(bare, rules) if bare else None
        if reason:
            taken.setdefault(reason, []).append(line)
        else:
            kept.append(line)
    return "\n".join(kept).strip("\n"), taken
