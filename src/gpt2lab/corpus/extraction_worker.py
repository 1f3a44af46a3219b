"""The process in which `extraction_process` extracts: pages on standard input, answers on standard output.

python -m gpt2lab.corpus.extraction_worker EXTRACTOR
"""

import os
import signal
import sys
from typing import cast

from gpt2lab.base.errors import UserError
from gpt2lab.corpus.documents import Document, Dropped
from gpt2lab.corpus.extraction import Extractor, extract
from gpt2lab.corpus.extraction_process import read_page, write_answer


def main(extractor: Extractor) -> None:
    """Answer page after page, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # whatever a library prints must not stand among the answers
        while page := read_page(sys.stdin.buffer):
            answer: Document | Dropped | UserError
            try:
                answer = extract(page, extractor)
            except UserError as error:
                answer = error
            write_answer(answers, answer)


if __name__ == "__main__":
    main(cast(Extractor, sys.argv[1]))
