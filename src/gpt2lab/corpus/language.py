"""Which language a text is in, and the filter that keeps English.

py3langid (a naive Bayes model over byte n-grams of 1 to 6; Lui and Baldwin, "langid.py", 2012) names the
language. Its own loop over bytes reads 2.5 MB/s; its table of n-grams is walked here for all bytes of several
pieces at once, which finds the same n-grams and reads three times as much. Asked of short pieces it calls a
few English that no one would (one in ten thousand of 200 characters), so English must hold English words too.
"""

import functools
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.extras import import_extra
from gpt2lab.corpus.ngrams import words

_PIECE_CHARS = 200  # enough for an answer that is right; a text in two languages has pieces of both
_MOST_PIECES = 8  # of a long text, evenly spread: a book costs no more than a page
_WORDS_PER_FREQUENT = 10  # at least one word in ten (in running English it is one in three)
_FREQUENT = frozenset(
    {
        "the", "of", "and", "to", "in", "that", "is", "was", "for", "it", "with", "as", "his", "on", "be",
        "at", "by", "he", "not", "are", "this", "but", "have", "from", "had", "which", "or", "her", "they",
        "you", "were", "all",
    }
)  # fmt: skip
_LONGEST = 6  # bytes in the longest n-gram of the model
_OUTSIDE = b"\xff"  # never occurs in UTF-8, so no n-gram goes on past it


def english(text: str) -> str | None:
    """A rule with the reason ``not_english``: less than half of the text is in English.

    English creoles (Krio, Nigerian Pidgin, Tok Pisin, Bislama) are other languages to it, Scots is English.
    """
    pieces = _pieces(text)
    needed = (len(pieces) + 1) // 2
    while 0 < needed <= len(pieces):  # no more are asked for than may still decide
        asked, pieces = pieces[:needed], pieces[needed:]
        asked = [piece for piece in asked if _has_english_words(piece)]
        needed -= identify_each(asked).count("en")
    return "not_english" if needed else None


def language_shares(text: str) -> dict[str, float]:
    """The languages of `text` (ISO 639 codes; ``zxx`` is none) with the share of its pieces, largest first.

    A long text is judged by 8 pieces spread over it.
    """
    pieces = _pieces(text)
    counts = Counter(identify_each(pieces))
    return {language: count / len(pieces) for language, count in counts.most_common()}


def identify_each(texts: Sequence[str]) -> list[str]:
    """The one most likely language of the whole of each text: what ``py3langid.classify(text)[0]`` says.

    ``zxx``, no language, where not one n-gram is known (py3langid then answers with the first of its list).
    Several short texts at once take half the time that they take one by one.
    """
    return _load_model().most_likely([_model_bytes(text) for text in texts]) if texts else []


def _pieces(text: str) -> list[str]:
    """One piece for 200 characters and never more than 8; they cover a text of up to 1,600."""
    n_pieces = min(max(len(text) // _PIECE_CHARS, 1), _MOST_PIECES)
    step = len(text) / n_pieces
    size = int(step) + 1 if n_pieces < _MOST_PIECES else _PIECE_CHARS
    return [text[int(i * step) : int(i * step) + size] for i in range(n_pieces)]


def _has_english_words(piece: str) -> bool:
    found = words(piece)
    return sum(map(_FREQUENT.__contains__, found)) >= len(found) // _WORDS_PER_FREQUENT


def _model_bytes(text: str) -> bytes:
    """The bytes that py3langid was trained on: composed characters, and no text that is all capitals."""
    plain = text.lower() if text.isupper() else text
    return unicodedata.normalize("NFC", plain).encode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class _Model:
    """py3langid's automaton (Aho and Corasick 1975) and its weights.

    A state stands for the longest n-gram that ends here, so it is decided by the last 6 bytes alone and can
    be found for every place of a text independently: 5 look-ups a byte, all in numpy.
    """

    languages: list[str]
    row_after_two: NDArray[np.uint16]  # (65536,): the row of the state that two bytes lead to
    next_row: NDArray[np.uint16]  # (rows * 256,): from a row, and a byte in it, to the row of the next state
    next_ngram: NDArray[np.int32]  # (rows * 256,): the same, to the n-gram that ends there, or -1
    weights: NDArray[np.float32]  # (n-grams, languages); a third of the time goes into fetching its rows
    prior: NDArray[np.float32]  # (languages,)

    def ngrams_of(self, data: bytes) -> NDArray[np.int32]:
        """The n-gram that ends at each byte of `data`, shape (bytes,); -1 where none does."""
        n = len(data)
        shifted = np.frombuffer(_OUTSIDE * (_LONGEST - 1) + data, dtype=np.uint8).astype(np.int64)
        row = self.row_after_two.take((shifted[:n] << 8) | shifted[1 : n + 1])
        for offset in range(2, _LONGEST - 1):
            row = self.next_row.take((row.astype(np.int64) << 8) + shifted[offset : offset + n])
        return self.next_ngram.take((row.astype(np.int64) << 8) + shifted[_LONGEST - 1 :])

    def most_likely(self, texts: Sequence[bytes]) -> list[str]:
        """The language of each text; ``zxx`` where no n-gram of the model is in it."""
        ngrams = self.ngrams_of(_OUTSIDE.join(texts) + _OUTSIDE)
        n_texts = np.int32(len(texts))
        text_of = np.repeat(np.arange(n_texts, dtype=np.int32), [len(text) + 1 for text in texts])
        pairs = (ngrams * n_texts + text_of)[ngrams >= 0]
        pairs.sort()
        last = np.flatnonzero(np.append(pairs[1:] != pairs[:-1], True)[: len(pairs)])
        ngram, text = np.divmod(pairs.take(last), n_texts)
        is_new = np.append(True, ngram[1:] != ngram[:-1])[: len(ngram)]  # each row of weights is fetched once
        counts = np.zeros((len(texts), np.count_nonzero(is_new)), dtype=np.float32)
        counts[text, is_new.cumsum() - 1] = np.log1p(np.diff(last, prepend=-1))
        scores = counts @ self.weights.take(ngram[is_new], axis=0) + self.prior
        known = np.bincount(text, minlength=len(texts)).tolist()
        best = scores.argmax(axis=1).tolist()
        return [self.languages[i] if n_ngrams else "zxx" for i, n_ngrams in zip(best, known, strict=True)]


@functools.cache
def _load_model() -> _Model:
    """py3langid's model, laid out for `_Model`: about 120 MB of memory, read once a process."""
    langid = import_extra("py3langid.langid", "corpus")
    found = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    next_state = np.frombuffer(found.tk_nextmove, dtype=np.uint32).reshape(-1, 256)
    row_of = np.asarray(found.tk_row, dtype=np.uint16)
    ngram = np.asarray(found.tk_output, dtype=np.int32)
    return _Model(
        languages=list(found.nb_classes),
        row_after_two=row_of[next_state[row_of[next_state[row_of[0]]]]].ravel(),
        next_row=row_of[next_state].ravel(),
        next_ngram=ngram[next_state].ravel(),
        weights=np.asarray(found.nb_ptc, dtype=np.float32),
        prior=np.asarray(found.nb_pc, dtype=np.float32),
    )
