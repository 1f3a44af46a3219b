"""Training a vocabulary with gigatoken: several times faster than the reference, the same merges.

It is not taken at its word. It must agree with the reference on the first part of the corpus, and it runs in
a process of its own, because it prints to standard output and ends its process where it fails.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from gpt2lab.tokenizer import byte_alphabet

BOUNDARY = b"\xff"  # after each text of a corpus file: a byte that no UTF-8 text contains
Merges = list[tuple[str, str]]

# Different words there must be for each merge. Where nothing is left to join, gigatoken goes on with pairs
# that do not occur; as long as there are more words than merges, some word is still in parts, because each
# word made whole took a merge. And where most pairs left are rare, and equally so, it is slow: on 20 MB of
# books with 1.4 words a merge it took 10.4 s and the reference 3.8 s; on 50 MB with 2.2, 3.9 s and 7.0 s.
WORDS_A_MERGE = 2


class UnfitError(Exception):
    """The fast trainer cannot be used here.

    Args:
        reason: why not.
        worth_saying: whether people should hear of it; an extra not installed or a small corpus is no news.
    """

    def __init__(self, reason: str, worth_saying: bool = True) -> None:
        super().__init__(reason)
        self.worth_saying = worth_saying


def fast_merges(corpus: Path, n_merges: int) -> Merges:
    """The first `n_merges` merges of a corpus file.

    Args:
        corpus: texts in UTF-8, `BOUNDARY` after each; other files are written beside it.
        n_merges: how many.

    Raises:
        UnfitError: the fast trainer is missing, fails, disagrees with the reference, or might run out of
            pairs to merge.
    """
    if find_spec("gigatoken") is None:
        raise UnfitError("the fast trainer, gigatoken, is not installed", worth_saying=False)
    result = corpus.with_name("merges.json")
    worker = subprocess.run(
        # -P: a module of the same name in the current folder must not take the place of a library's
        [sys.executable, "-P", "-m", "gpt2lab.tokenizer.fast_training_worker", corpus, str(n_merges), result],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if worker.returncode != 0:
        last_line = worker.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UnfitError(f"the fast trainer failed ({last_line or f'exit code {worker.returncode}'})")
    answer = json.loads(result.read_text(encoding="utf-8"))
    if not answer["enough_words"]:
        raise UnfitError("there are too few words for so many merges", worth_saying=False)
    if not answer["agrees"]:
        raise UnfitError("the fast trainer gives other merges than the Hugging Face trainer")
    return [(left, right) for left, right in answer["merges"]]


def spelled(merges: list[tuple[bytes, bytes]]) -> Merges:
    """Merges as vocabulary files spell them."""
    return [(byte_alphabet.from_bytes(left), byte_alphabet.from_bytes(right)) for left, right in merges]
