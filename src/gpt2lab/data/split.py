"""Which documents are held out: decided by a hash of the document, so it never moves.

A split drawn by a random generator changes with the order of the input and with every document added; a
hash gives each document the same side for ever, on any machine, in any number of processes.
"""

import hashlib
from typing import Literal

from gpt2lab.base.errors import UserError

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")

_PURPOSE = b"gpt2lab split"  # makes this hash independent of any other use of blake2b on the same text


def split_of(document_key: str, validation_fraction: float) -> Split:
    """Whether a document trains or validates.

    Args:
        document_key: its identity: a name, a URL or its whole text. Give related documents (chapters of one
            book, pages of one site) one key to keep them on one side.
        validation_fraction: the share of keys to hold out, in [0, 1]. Raising it only moves documents from
            "train" to "val", never back.

    Raises:
        UserError: `validation_fraction` is not in [0, 1].
    """
    if not 0.0 <= validation_fraction <= 1.0:
        raise UserError(
            f"{validation_fraction} is not a fraction",
            where="validation_fraction",
            fix="Give a number from 0 to 1, for example 0.05",
        )
    # surrogatepass: keys made of file names may carry lone surrogates (os.fsdecode)
    key = document_key.encode("utf-8", errors="surrogatepass")
    position = int.from_bytes(hashlib.blake2b(key, digest_size=8, person=_PURPOSE).digest(), "big")
    # Scaling a float by a power of two and comparing it with an int are both exact in Python.
    return "val" if position < validation_fraction * 2.0**64 else "train"
