"""How good and how fast is what turns a page into a good text, beside datatrove's same functions?

    python benchmarks/corpus_filters.py --data DIR [--datatrove PYTHON]

DIR (or GPT2LAB_TEST_DATA) holds books (text/books), WikiText and other evaluation sets (evaluation), and the
Declaration of Human Rights by language (web/langid_udhr). PYTHON is the interpreter of an environment with
datatrove[processing], spaCy and py3langid, in which this same script runs the peer's side.

Quality first: the English filter on pieces of several lengths, main text on the pages of tests/corpus/pages.
Then speed, by the processor time of one core: every measurement is a process of its own, the two sides take
turns within each round, figures are medians. Text comes as pages of 5,000 characters cut from books.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

Texts = list[str]
Work = Callable[[Texts], Any]

PAGES = Path(__file__).resolve().parents[1] / "tests" / "corpus" / "pages"
PAGE_CHARS = 5_000
LENGTHS = (20, 50, 100, 200, 500, 1000, 2000)
ASKED = 2_000  # pieces of books and of WikiText for each length
CREOLES_AND_SCOTS = ("pcm", "kri", "tpi", "bis", "pis", "sco")
ENGLISH_PREFACE = "njo"  # this translation opens with a page of English: neither right nor wrong
SLOW = {"gopher": 0.1, "c4": 0.1, "fineweb": 0.1, "language": 0.3}  # share of the text that the peer gets
_TOKEN = re.compile(r"\w+")


# Quality: the English filter.


def declaration(data: Path) -> dict[str, str]:
    """The Universal Declaration of Human Rights by language code, without its margins."""
    with zipfile.ZipFile(data / "web/langid_udhr/udhr2.zip") as archive:
        return {
            Path(name).stem: "\n".join(map(str.strip, archive.read(name).decode().splitlines())).strip()
            for name in archive.namelist()
            if name.endswith(".txt")
        }


def pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text) - size + 1, size)]


def language_rows(data: Path, books: Texts) -> list[dict[str, Any]]:
    """Recall on English of three kinds; precision on the Declaration in all other languages."""
    from gpt2lab.corpus.language import english

    def kept(asked: Sequence[str]) -> float:
        return sum(english(piece) is None for piece in asked) / max(len(asked), 1)

    wikitext = (data / "evaluation/wikitext-raw/wiki.test.raw").read_text(encoding="utf-8")
    by_language = declaration(data)
    rows = []
    for size in LENGTHS:
        row: dict[str, Any] = {"characters": size}
        for name, texts in (("books", books), ("WikiText", [wikitext])):
            found = [piece for text in texts for piece in pieces(text, size)]
            row[f"recall {name}"] = kept(random.Random(0).sample(found, min(ASKED, len(found))))
        cut = {language: pieces(text, size) for language, text in by_language.items()}
        row["recall UDHR"] = kept(cut["eng"])
        apart = {"eng", ENGLISH_PREFACE, *CREOLES_AND_SCOTS}
        others = [piece for language in cut.keys() - apart for piece in cut[language]]
        wrong = kept(others) * len(others)
        right = row["recall UDHR"] * len(cut["eng"])
        row |= {"other pieces": len(others), "taken for English": round(wrong)}
        row["precision UDHR"] = right / max(right + wrong, 1)
        row |= {language: kept(cut[language]) for language in CREOLES_AND_SCOTS}
        rows.append(row)
    return rows


def mixed_rows(data: Path) -> list[dict[str, Any]]:
    """Pages of 3,000 characters, so much of them in English and the rest, after it, in another language."""
    from gpt2lab.corpus.language import english, language_shares

    by_language = declaration(data)
    rows = []
    for other in ("fra", "deu_1901", "rus", "cmn_hans"):
        for share in (0.3, 0.45, 0.55, 0.7):
            cut = int(3_000 * share)
            text = by_language["eng"][:cut] + "\n" + by_language[other][: 3_000 - cut]
            shares = language_shares(text)
            rows.append(
                {
                    "other": other,
                    "English": share,
                    "found": shares.get("en", 0.0),
                    "kept": english(text) is None,
                }
            )
    return rows


# Quality: main text.


def shingle_score(true: str, found: str) -> tuple[float, float, float]:
    """Shares of the 4-word shingles that are in both texts, only in the found one, only in the true one."""
    counts = []
    for text in (true, found):
        words = _TOKEN.findall(text)
        counts.append(Counter(tuple(words[i : i + 4]) for i in range(len(words) - 3)))
    both, added, lost = counts[0] & counts[1], counts[1] - counts[0], counts[0] - counts[1]
    total = both.total() + added.total() + lost.total()
    return both.total() / total, added.total() / total, lost.total() / total


def extraction_scores(folder: Path, extractor: str) -> dict[str, Any]:
    """Precision, recall and F1 by the protocol of article-extraction-benchmark: all pages count alike."""
    from gpt2lab.corpus.extraction import extract
    from gpt2lab.corpus.pages import Page

    sums = [0.0, 0.0, 0.0]
    by_page = {}
    files = sorted(folder.glob("*.html"))
    for file in files:
        result = extract(Page(file.name, file.read_bytes(), "text/html", None, ""), extractor)
        found = "" if hasattr(result, "reason") else result.text
        shares = shingle_score(file.with_suffix(".txt").read_text(encoding="utf-8"), found)
        sums = [total + share for total, share in zip(sums, shares, strict=True)]
        by_page[file.stem] = _precision_and_recall(*shares)
    precision, recall = _precision_and_recall(*sums)
    f1 = 2 * precision * recall / (precision + recall)
    return {"pages": len(files), "f1": f1, "precision": precision, "recall": recall, "by page": by_page}


def _precision_and_recall(both: float, added: float, lost: float) -> tuple[float, float]:
    return both / max(both + added, 1e-9), both / max(both + lost, 1e-9)


# Speed: ours.


def ours_filter(preset: str) -> Work:
    from gpt2lab.corpus.documents import Document
    from gpt2lab.corpus.quality import PRESETS, filter_quality

    def keeps(text: str) -> bool:
        *_, last = filter_quality(Document("1", text, ""), PRESETS[preset])
        return not hasattr(last, "reason")

    return lambda texts: [keeps(text) for text in texts]


def ours_language() -> Work:
    from gpt2lab.corpus.language import english

    english("Load the model.")
    return lambda texts: [english(text) is None for text in texts]


def ours_each(module: str, function: str) -> Work:
    called = getattr(__import__(f"gpt2lab.corpus.{module}", fromlist=[function]), function)
    called("é a")  # tables for characters beyond ASCII
    return lambda texts: [called(text) for text in texts]


def ours_decode() -> Work:
    from gpt2lab.corpus.encoding import decode_page

    return lambda texts: [decode_page(text.encode(), None) for text in texts]


def ours_extraction(extractor: str) -> Work:
    from gpt2lab.corpus.extraction import extract
    from gpt2lab.corpus.pages import Page

    extract(Page("u", b"<html><p>Load the library.</p>", "text/html", None, ""), extractor)
    return lambda texts: [
        extract(Page("u", text.encode(), "text/html", None, ""), extractor) for text in texts
    ]


OURS: dict[str, Callable[[], Work]] = {
    "normalise": lambda: ours_each("clean", "normalise_text"),
    "decode": ours_decode,
    "language": ours_language,
    "gopher": lambda: ours_filter("gopher"),
    "c4": lambda: ours_filter("c4"),
    "fineweb": lambda: ours_filter("fineweb"),
    "personal data": lambda: ours_each("personal_data", "mask_personal_data"),
    "words": lambda: ours_each("ngrams", "words"),
    "word hashes": lambda: ours_each("ngrams", "word_hashes"),
    "extract, trafilatura": lambda: ours_extraction("trafilatura"),
    "extract, resiliparse": lambda: ours_extraction("resiliparse"),
}


# Speed: the peer, in its own environment.


def peer_filters(names: Sequence[str], fastest: bool) -> Work:
    """datatrove's filters one after the other, on its English words or on what white space divides."""
    from datatrove.data import Document
    from datatrove.pipeline import filters
    from datatrove.utils.word_tokenizers import WhitespaceTokenizer, load_word_tokenizer

    class Split(WhitespaceTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

    language = Split() if fastest else load_word_tokenizer("eng")
    options = {"C4QualityFilter": {"filter_no_terminal_punct": len(names) == 1}}
    steps = [getattr(filters, name)(language=language, **options.get(name, {})) for name in names]
    # The published threshold, as ours: the released default is a tenth of it.
    for step in steps:
        if hasattr(step, "char_duplicates_ratio"):
            step.char_duplicates_ratio = 0.1

    def keeps(text: str) -> bool:
        document = Document(text=text, id="1")
        return all(step.filter(document) is True for step in steps)

    keeps("Load the tokeniser. " * 30)
    return lambda texts: [keeps(text) for text in texts]


def peer_language() -> Work:
    """Its own model is downloaded when it is used; py3langid is what the same pipeline takes without one."""
    import py3langid

    py3langid.classify("Load the model.")
    return lambda texts: [py3langid.classify(text)[0] == "en" for text in texts]


def peer_personal_data() -> Work:
    from datatrove.pipeline.formatters import PIIFormatter

    formatter = PIIFormatter()
    return lambda texts: [formatter.format(text) for text in texts]


def peer_extraction() -> Work:
    from datatrove.pipeline.extractors import Trafilatura

    extractor = Trafilatura()
    extractor.extract("<html><p>Load the library.</p>")
    return lambda texts: [extractor.extract(text) for text in texts]


_GOPHER = ("GopherRepetitionFilter", "GopherQualityFilter")
PEER: dict[str, dict[str, Callable[[], Work]]] = {
    "datatrove": {
        "language": peer_language,
        "gopher": lambda: peer_filters(_GOPHER, fastest=False),
        "c4": lambda: peer_filters(["C4QualityFilter"], fastest=False),
        "fineweb": lambda: peer_filters([*_GOPHER, "C4QualityFilter", "FineWebQualityFilter"], fastest=False),
        "personal data": peer_personal_data,
        "extract, trafilatura": peer_extraction,
    },
    "datatrove, split at white space": {
        "gopher": lambda: peer_filters(_GOPHER, fastest=True),
        "c4": lambda: peer_filters(["C4QualityFilter"], fastest=True),
        "fineweb": lambda: peer_filters([*_GOPHER, "C4QualityFilter", "FineWebQualityFilter"], fastest=True),
    },
}


# Speed: 8-grams.


def ngram_rates(texts: Texts, data: Path) -> dict[str, float]:
    """Millions of 8-grams a second, step by step and together, whole books at a time."""
    from gpt2lab.corpus.bloom import BloomFilter
    from gpt2lab.corpus.ngrams import ngram_hashes, word_hashes
    from gpt2lab.corpus.overlap import SeenNgrams
    from gpt2lab.data.evaluation_sets import read_evaluation_sets

    sets = {found.name: found.texts for found in read_evaluation_sets(data / "evaluation")}
    seen = SeenNgrams(sets)
    word_hashes("é")
    hashes, words_s = _timed(lambda: [word_hashes(text) for text in texts])
    grams, grams_s = _timed(lambda: [ngram_hashes(found, 8) for found in hashes])
    n = sum(map(len, grams)) / 1e6
    _, lookup_s = _timed(lambda: [seen.index.find(found) for found in grams])
    _, whole_s = _timed(lambda: [seen.mark(text) for text in texts])
    bloom = BloomFilter(int(n * 1e6))
    _, add_s = _timed(lambda: [bloom.add(found) for found in grams])
    _, ask_s = _timed(lambda: [bloom.contains(found) for found in grams])
    absent = [found ^ (found >> 1) for found in grams]
    _, absent_s = _timed(lambda: [bloom.contains(found) for found in absent])
    return {
        "text to word numbers": n / words_s,
        "word numbers to 8-grams": n / grams_s,
        f"look-up among {len(seen.index.members):,}": n / lookup_s,
        "text to marked 8-grams, whole": n / whole_s,
        "Bloom filter, add": n / add_s,
        "Bloom filter, look up what is there": n / ask_s,
        "Bloom filter, look up what is not": n / absent_s,
    }


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the processor time it took: nothing here waits, and other programs' time is not ours."""
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


# The frame.


def measure(who: str, task: str, corpus: Path, data: Path | None) -> dict[str, Any]:
    """One measurement, in this process."""
    if task == "8-grams":
        assert data
        return ngram_rates(_books(corpus), data)
    texts = _html_pages() if task.startswith("extract") else _pages(corpus)
    if who != "gpt2lab":
        texts = texts[: int(len(texts) * SLOW.get(task, 1.0))]
    work = (OURS if who == "gpt2lab" else PEER[who])[task]()
    work(texts[:5])
    result, seconds = _timed(lambda: work(texts))
    kept = [value for value in result if isinstance(value, bool)]
    return {"MB/s": sum(len(text.encode()) for text in texts) / 1e6 / seconds, "kept": kept}


def _books(corpus: Path) -> Texts:
    from tokenization import BOUNDARY

    return [text.decode() for text in corpus.read_bytes().split(BOUNDARY)[:-1]]


def _pages(corpus: Path) -> Texts:
    cut = [piece for book in _books(corpus) for piece in pieces(book, PAGE_CHARS)]
    return random.Random(0).sample(cut, len(cut))


def _html_pages() -> Texts:
    return [file.read_bytes().decode("utf-8", "replace") for file in sorted(PAGES.glob("*.html"))] * 20


def in_child(python: str, who: str, task: str, corpus: Path, data: Path) -> dict[str, Any]:
    """Run `measure` in a fresh process on one core."""
    from tokenization import _pin

    output = subprocess.run(
        [python, __file__, "--child", json.dumps([who, task, str(corpus), str(data)])],
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: _pin(1),
    ).stdout
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def speed_rows(arguments: argparse.Namespace, corpus: Path) -> list[dict[str, Any]]:
    jobs = [("gpt2lab", task) for task in OURS]
    if arguments.datatrove:
        jobs += [(who, task) for who, tasks in PEER.items() for task in tasks]
    jobs.sort(key=lambda job: job[1])
    answers: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number in range(arguments.rounds):
        for who, task in jobs:
            print(f"round {number + 1}: {task}, {who}", file=sys.stderr)
            python = sys.executable if who == "gpt2lab" else arguments.datatrove
            answers.setdefault((who, task), []).append(in_child(python, who, task, corpus, arguments.data))
    rows = []
    for (who, task), results in answers.items():
        speeds = [result["MB/s"] for result in results]
        base = answers["gpt2lab", task]
        same = [a == b for a, b in zip(results[0]["kept"], base[0]["kept"], strict=False)]
        rows.append(
            {"task": task, "name": who, "MB/s": statistics.median(speeds), "all": speeds}
            | {"gpt2lab is faster by": statistics.median(r["MB/s"] for r in base) / statistics.median(speeds)}
            | {"same answer": sum(same) / len(same) if same else None}
        )
    return rows


def ngram_rows(arguments: argparse.Namespace, corpus: Path) -> list[dict[str, Any]]:
    rounds = []
    for number in range(arguments.rounds):
        print(f"round {number + 1}: 8-grams", file=sys.stderr)
        rounds.append(in_child(sys.executable, "gpt2lab", "8-grams", corpus, arguments.data))
    return [{"step": step, "M/s": statistics.median(r[step] for r in rounds)} for step in rounds[0]]


def table(rows: list[dict[str, Any]]) -> str:
    heads = [head for head in rows[0] if not isinstance(rows[0][head], list)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(_shown(row[head]) for head in heads) + " |" for row in rows]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value <= 1 else f"{value:.1f}"
    return "" if value is None else str(value)


def _sections(arguments: argparse.Namespace) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    from tokenization import write_corpus

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        write_corpus(arguments.data / "text/books", corpus, arguments.megabytes * 1_000_000)
        yield "English filter: share of pieces kept", language_rows(arguments.data, _books(corpus))
        yield "English filter: pages in two languages", mixed_rows(arguments.data)
        scores = [
            {"extractor": name} | extraction_scores(PAGES, name) for name in ("trafilatura", "resiliparse")
        ]
        yield "Main text", [{k: v for k, v in row.items() if k != "by page"} for row in scores]
        pairs = zip(*(row["by page"].items() for row in scores), strict=True)
        yield (
            "Main text, page by page: precision and recall",
            [
                {"page": page, "trafilatura P": a[0], "R": a[1], "resiliparse P": b[0], "R ": b[1]}
                for (page, a), (_, b) in pairs
            ],
        )
        yield "Speed on one core", speed_rows(arguments, corpus)
        yield "8-grams, millions a second on one core", ngram_rows(arguments, corpus)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("GPT2LAB_TEST_DATA"),
        help="folder with text/books, evaluation and web/langid_udhr (default: GPT2LAB_TEST_DATA)",
    )
    parser.add_argument("--datatrove", help="the Python of an environment with datatrove (default: none)")
    parser.add_argument("--megabytes", type=int, default=20, help="of books (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, help="of every measurement (default: 5)")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    arguments = parser.parse_args()
    if arguments.data is None:
        print("not run: it needs a folder of data, by --data or GPT2LAB_TEST_DATA")
        return
    figures = {}
    for title, rows in _sections(arguments):
        figures[title] = rows
        print(f"\n{title}\n\n{table(rows)}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        who, task, corpus, data = json.loads(sys.argv[2])
        print(json.dumps(measure(who, task, Path(corpus), Path(data))))
    else:
        main()
