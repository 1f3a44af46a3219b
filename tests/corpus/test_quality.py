import random
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt2lab.corpus.documents import Document, Dropped
from gpt2lab.corpus.quality import (
    FINEWEB,
    GOPHER_QUALITY,
    GOPHER_REPETITION,
    PRESETS,
    filter_quality,
    quality_reason,
)
from gpt2lab.corpus.text_measures import TextMeasures

_WORDS = (
    "people have seen that kind of weather before and they know what to do with the rain it brings".split()
)
_ABC = st.text(st.sampled_from("ab \n.é1"), max_size=60)


def prose(n_words: int, seed: int = 0) -> str:
    """Sentences in lines, none of them like another."""
    rng = random.Random(seed)
    sentences = []
    for start in range(0, n_words, 12):
        chosen = [rng.choice(_WORDS) + rng.choice(["", "s", "ing", "ed"]) for _ in range(10)]
        sentences.append(" ".join(["The", "story", *chosen[: max(1, min(10, n_words - start - 2))]]) + ".")
    return "\n".join(sentences)


def spans(text: str, n: int) -> list[tuple[tuple[str, ...], int, int]]:
    """Every run of n words of lower-case ASCII letters, digits and é, with its start and its end."""
    edges, inside = [], False
    for place, letter in enumerate(text + " "):
        if letter.isalnum() != inside:
            edges.append(place)
            inside = not inside
    words = list(zip(edges[::2], edges[1::2], strict=True))
    return [
        (tuple(text[a:b] for a, b in words[i : i + n]), words[i][0], words[i + n - 1][1])
        for i in range(len(words) - n + 1)
    ]


@given(_ABC, st.integers(2, 4))
@example("a b a b a b", 2)
@example("aa bb aa bb 1 aa bb aa bb", 4)
def test_the_top_ngram_equals_the_plain_definition(text: str, n: int) -> None:
    filled: Counter[tuple[str, ...]] = Counter()
    counts: Counter[tuple[str, ...]] = Counter()
    for gram, start, end in spans(text, n):
        filled[gram] += end - start
        counts[gram] += 1
    top = max(counts.values(), default=0)
    most = max((filled[gram] for gram in counts if counts[gram] == top), default=0) if top > 1 else 0
    share = most / max(len(text), 1)
    assert not TextMeasures(text).top_ngram_fills(n, share + 1e-9)
    assert TextMeasures(text).top_ngram_fills(n, share - 1e-9) == (most > 0)


@given(_ABC, st.integers(2, 4))
@example("a b c a b c. a b", 2)
def test_repeated_ngrams_equal_the_plain_definition(text: str, n: int) -> None:
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    starts = [start for _, start, _ in spans(text, 1)]
    for gram, start, end in spans(text, n):
        if gram in seen:
            following = min((other for other in starts if other >= end), default=end)
            covered.update(range(start, following))
        seen.add(gram)
    measures = TextMeasures(text)
    share = measures.share_in_repeated_ngrams(n)
    assert share == pytest.approx(len(covered) / max(len(text), 1))
    assert share <= measures.most_in_repeated_ngrams(n) + 1e-9
    assert measures.share_in_repeated_ngrams(n + 1) <= share  # what the rule takes for granted


@given(_ABC)
def test_lines_and_letters_equal_the_plain_definition(text: str) -> None:
    measures = TextMeasures(text)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    repeats = [line for place, line in enumerate(lines) if line in lines[:place]]
    expected = (len(repeats) / len(lines), sum(map(len, repeats)) / len(text)) if lines else (0, 0)
    assert measures.repeated_lines == pytest.approx(expected)
    tokens = text.split()
    with_letter = sum(any(map(str.isalpha, token)) for token in tokens)
    assert measures.enough_tokens_have_letters(0.8) == (with_letter >= 0.8 * len(tokens))


@given(st.text())
@example("")
@example(" \n ")
def test_every_rule_has_an_answer_to_every_text(text: str) -> None:
    for name in PRESETS:
        results = list(filter_quality(Document("1", text, ""), PRESETS[name]))
        assert all(isinstance(result, Dropped) and result.reason for result in results[:-1])


def test_prose_passes_every_preset() -> None:
    document = Document("1", prose(600), "")
    for steps in PRESETS.values():
        assert list(filter_quality(document, steps)) == [document]


_BODY = prose(600)
_LINES = _BODY.split("\n")


@pytest.mark.parametrize(
    ("reason", "text", "still_fine"),
    [
        ("gopher_few_words", " ".join(_BODY.split()[:49]), " ".join(_BODY.split()[:50])),
        ("gopher_many_words", "of the " * 50_001, "of the " * 50_000),
        ("gopher_short_words", "to be " * 30, "the and that " * 30),
        ("gopher_long_words", "abcdefghijk " * 60, "abcdefghij " * 60),
        ("gopher_hashes", _BODY + " #" * 80, _BODY + " #" * 60),
        ("gopher_ellipses", _BODY + " well…" * 80, _BODY + " well…" * 60),
        (
            "gopher_bullet_lines",
            "- " + _BODY.replace("\n", "\n- "),
            "- " + "\n- ".join(_LINES[:40]) + "\na" * 6,
        ),
        (
            "gopher_ellipsis_lines",
            "\n".join(_LINES[:14]) + "...\n" + "...\n".join(_LINES[14:21]) + "...",
            "\n".join(_LINES[:17]) + "...\n" + "...\n".join(_LINES[17:22]) + "...",
        ),
        ("gopher_few_letters", _BODY + " 12" * 160, _BODY + " 12" * 140),
        ("gopher_few_stop_words", "cats like fish. " * 20, "cats like the fish to eat. " * 20),
    ],
)
def test_gopher_quality_thresholds(reason: str, text: str, still_fine: str) -> None:
    assert quality_reason(text, GOPHER_QUALITY) == reason
    objections = [rule.reason for rule in GOPHER_QUALITY if rule.objects(TextMeasures(still_fine))]
    assert reason not in objections


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("gopher_repeated_lines", _BODY + "\nYes." * 25),
        ("gopher_repeated_line_chars", _BODY + ("\n" + _LINES[0] * 3) * 7),
        ("gopher_repeated_paragraphs", "\n\n".join([*_LINES[:8], *["Hm."] * 5])),
        ("gopher_repeated_paragraph_chars", "\n\n".join([_BODY[:900]] * 2 + _LINES[30:40])),
        ("gopher_top_2_gram", " or ".join(_LINES[:4]) + " very good " * 14),
        ("gopher_repeated_ngrams", _BODY[:1500] + " " + _BODY[:300].replace("\n", " ")),
    ],
)
def test_gopher_repetition(reason: str, text: str) -> None:
    assert reason in [rule.reason for rule in GOPHER_REPETITION if rule.objects(TextMeasures(text))]
    assert quality_reason(_BODY, GOPHER_REPETITION) is None


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("fineweb_line_ends", "\n".join(line.rstrip(".") for line in _LINES)),
        ("fineweb_repeated_line_chars", "\n".join([*_LINES, *_LINES[:8]])),
        ("fineweb_short_lines", "\n".join([_LINES[0], "Short one.", "Short two.", "Short three."])),
    ],
)
def test_fineweb_rules(reason: str, text: str) -> None:
    assert quality_reason(text, FINEWEB) == reason


def test_c4_takes_out_lines_and_gives_every_one_a_reason() -> None:
    bad = {
        "c4_no_terminal_punctuation": "Home News Sport",
        "c4_few_words": "Read more.",
        "c4_javascript": "Please enable JavaScript to see this page.",
        "c4_policy": "This site uses cookies to know you.",
        "c4_long_word": "x" * 1001 + " is a word.",
    }
    document = Document("1", "\n".join([*_LINES[:5], *bad.values(), *_LINES[5:10]]), "")
    *dropped, kept = filter_quality(document, PRESETS["c4"])
    assert {(d.reason, d.text) for d in dropped if isinstance(d, Dropped)} == set(bad.items())
    assert kept == Document("1", "\n".join(_LINES[:10]), "")


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("c4_lorem_ipsum", _BODY + "\nLorem ipsum dolor sit amet."),
        ("c4_curly_bracket", _BODY + "\nfunction f() { return 1; }"),
        ("c4_few_sentences", "\n".join(_LINES[:4])),
    ],
)
def test_c4_drops_pages(reason: str, text: str) -> None:
    (dropped,) = filter_quality(Document("1", text, ""), PRESETS["c4"])
    assert dropped == Dropped("1", text, reason)
