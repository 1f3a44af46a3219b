"""The GPT-2 paper's table 6 on books: how many 8-grams of each test set stand in the training text too?

    python benchmarks/corpus_overlap.py --data DIR

DIR (or GPT2LAB_TEST_DATA) holds the training text (text/books/*.jsonl.xz) and evaluation sets (evaluation).
Both ways of section 4: streaming, which is exact, and the paper's Bloom filter. That may only ever see more,
and no more than its error allows; exit code 1 if it does not keep to that.

A table on standard output, or as JSON with --json.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

PAPER = {"own training part": 5.9, "WebText": 3.2}  # averages of table 6, in percent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("GPT2LAB_TEST_DATA"))
    parser.add_argument("--books", type=int, default=0, help="files of books to read; 0 for all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.data:
        parser.error("--data is needed, or GPT2LAB_TEST_DATA")
    files = sorted((options.data / "text" / "books").glob("*.jsonl.xz"))
    result = measure(files[: options.books or None], options.data / "evaluation")
    print(json.dumps(result, indent=2) if options.json else shown(result))
    return 0 if result["the two ways agree"] else 1


def measure(files: list[Path], evaluation: Path) -> dict[str, object]:
    """Both ways over the same text."""
    from gpt2lab.corpus.bloom import PAPER_ERROR, BloomFilter
    from gpt2lab.corpus.documents import read_documents
    from gpt2lab.corpus.ngrams import ngram_hashes, word_hashes
    from gpt2lab.corpus.overlap import PAPER_N, SeenNgrams, overlap_with, overlap_with_own_training
    from gpt2lab.data.evaluation_sets import read_evaluation_sets

    sets = read_evaluation_sets(evaluation)
    n_grams = sum(
        max(len(word_hashes(book.text)) - PAPER_N + 1, 0) for book in read_documents(files)
    )  # an upper bound on those that differ: the filter must be made before they come
    streaming = SeenNgrams({one.name: one.texts for one in sets})
    seen = BloomFilter(n_grams)
    seconds = {"streaming": 0.0, "Bloom filter": 0.0}
    for book in read_documents(files):
        started = time.process_time()
        streaming.mark(book.text)
        seconds["streaming"] += time.process_time() - started
        started = time.process_time()
        seen.add(ngram_hashes(word_hashes(book.text), PAPER_N))
        seconds["Bloom filter"] += time.process_time() - started
    exact = streaming.overlaps()
    rows, agree = [], True
    for one in sets:
        by_filter = overlap_with(seen, one.texts)
        more = by_filter.seen - exact[one.name].seen
        # What is expected of wrong answers is far below one, so more than one a set would be no chance.
        agree = agree and 0 <= more <= 1 + 10 * PAPER_ERROR * by_filter.n_grams
        own = overlap_with_own_training(one.texts, one.training) if one.training else None
        rows.append(
            {
                "set": one.name,
                "8-grams": by_filter.n_grams,
                "own training part": None if own is None else own.share,
                "books, streaming": exact[one.name].share,
                "books, Bloom filter": by_filter.share,
                "wrongly seen by the filter": more,
            }
        )
    return {
        "8-grams of the books": n_grams,
        "filter's error": seen.error_now,
        "the two ways agree": agree,
        "processor seconds": seconds,
        "paper's averages, %": PAPER,
        "sets": rows,
    }


def shown(result: dict[str, object]) -> str:
    """The table for people."""
    rows = result["sets"]
    assert isinstance(rows, list)
    heads = list(rows[0])
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(_cell(row[head]) for head in heads) + " |" for row in rows]
    facts = {name: value for name, value in result.items() if name != "sets"}
    return "\n".join([*lines, "", *(f"{name}: {value}" for name, value in facts.items())])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4%}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
