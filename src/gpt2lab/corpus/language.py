"""Which language a text is in, and the filter that keeps English.

py3langid (a naive Bayes model over byte n-grams of 1 to 6; Lui and Baldwin, "langid.py", 2012) names the
language. Its own loop over bytes reads 3 MB/s; its table of n-grams is walked here for all bytes at once,
which finds the same n-grams and reads five times as much. Asked of short pieces it calls a few English that
no one would (one in ten thousand of 200 characters), so English must also hold English words.
"""

import functools
import unicodedata
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2lab.base.extras import import_extra
from gpt2lab.corpus.ngrams import words

Numbers = NDArray[np.uint32]

_PIECE_CHARS = 500  # enough for an answer that is right; a text in two languages has pieces of both
_MOST_PIECES = 16  # of a long text, evenly spread: a book costs no more than a long page
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
    n_english = sum(_has_english_words(piece) and identify(piece) == "en" for piece in pieces)
    return None if 2 * n_english >= len(pieces) else "not_english"


def language_shares(text: str) -> dict[str, float]:
    """The languages of `text` (ISO 639 codes; ``zxx`` is none) with the share of its pieces, largest first.

    A long text is judged by 16 pieces spread over it.
    """
    pieces = _pieces(text)
    counts = Counter(identify(piece) for piece in pieces)
    return {language: count / len(pieces) for language, count in counts.most_common()}


def identify(text: str) -> str:
    """The one most likely language of the whole of `text`: what ``py3langid.classify(text)[0]`` says.

    ``zxx``, no language, where not one n-gram is known (py3langid then answers with the first of its list).
    """
    model = _load_model()
    ngrams = model.ngrams_of(_model_bytes(text))
    return model.most_likely(ngrams) if len(ngrams) else "zxx"


def _pieces(text: str) -> list[str]:
    """One piece for 500 characters and never more than 16; they cover a text of up to 8,000."""
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
    after_two: Numbers  # (65536,): where the row of the state begins that two bytes lead to
    next_row: Numbers  # (rows * 256,): from a row's beginning plus a byte to the beginning of the next row
    next_state: Numbers  # (rows * 256,): the same, to the number of the state
    ngram: NDArray[np.int32]  # (states,): the n-gram that ends in this state, or -1
    weights: NDArray[np.float16]  # (n-grams, languages); most of the time goes into fetching its rows
    prior: NDArray[np.float32]  # (languages,)

    def ngrams_of(self, data: bytes) -> NDArray[np.int32]:
        """The numbers of the n-grams in `data`, one a place at most."""
        n = len(data)
        shifted = np.frombuffer(_OUTSIDE * (_LONGEST - 1) + data, dtype=np.uint8).astype(np.uint32)
        row = self.after_two.take((shifted[:n] << 8) | shifted[1 : n + 1])
        for offset in range(2, _LONGEST - 1):
            row = self.next_row.take(row + shifted[offset : offset + n])
        found = self.ngram.take(self.next_state.take(row + shifted[_LONGEST - 1 :]))
        return found[found >= 0]

    def most_likely(self, ngrams: NDArray[np.int32]) -> str:
        ordered = np.sort(ngrams)
        is_last = np.append(ordered[1:] != ordered[:-1], True)
        last = is_last.nonzero()[0]
        counts = np.diff(last, prepend=-1).astype(np.float32)
        weights = self.weights.take(ordered[last], axis=0).astype(np.float32)
        scores = np.log1p(counts) @ weights + self.prior
        return self.languages[int(scores.argmax())]


@functools.cache
def _load_model() -> _Model:
    """py3langid's model, laid out for `_Model`: about 120 MB of memory, read once a process."""
    langid = import_extra("py3langid.langid", "corpus")
    found = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
    next_state = np.frombuffer(found.tk_nextmove, dtype=np.uint32).reshape(-1, 256)
    row_of = np.asarray(found.tk_row, dtype=np.uint32)
    begins = row_of << np.uint32(8)
    return _Model(
        languages=list(found.nb_classes),
        after_two=begins[next_state[row_of[next_state[row_of[0]]]]].ravel(),
        next_row=begins[next_state].ravel(),
        next_state=next_state.ravel(),
        ngram=np.asarray(found.tk_output, dtype=np.int32),
        weights=np.asarray(found.nb_ptc, dtype=np.float16),
        prior=np.asarray(found.nb_pc, dtype=np.float32),
    )
