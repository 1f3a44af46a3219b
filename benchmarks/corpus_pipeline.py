"""How fast is a corpus built on two cores, beside datatrove, and in how much memory?

    python benchmarks/corpus_pipeline.py --data DIR --peer /path/to/datatrove-venv/bin/python \\
        --language-model lid.176.ftz --memory-plot memory.png

DIR (or GPT2LAB_TEST_DATA) holds books (text/books/*.jsonl.xz) and OpenAI's vocabulary (tokenizer/gpt2). The
corpus is made of them: pieces of 5,000 characters, one in ten of them twice, with up to ten words changed.
Both sides read it as JSON lines, normalise, keep English, remove near-duplicates (MinHash, 14 bands of 8,
word 5-grams) and tokenise for GPT-2, with the same number of processes; they take turns. datatrove uses that
of its word tokenisers that is the fastest here, and fastText's model for languages, which it would download.
Its environment needs orjson, spacy, tokenizers and fasttext-numpy2-wheel.

With --memory-plot a corpus is also built at sizes from 100 MB to 2 GB, and the most memory that all processes
together hold is drawn against its size.

One line of progress a run on standard error, everything as JSON on standard output.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

PIECE_CHARS, FILES = 5_000, 8
MEMORY_SIZES = (100, 200, 500, 1000, 2000)
WORD_TOKENIZERS = ("spacy-en", "spacy-xx", "nltk")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("GPT2LAB_TEST_DATA"))
    parser.add_argument("--megabytes", type=int, default=60, help="of text")
    parser.add_argument("--rounds", type=int, default=3, help="of both sides; 0 leaves speed out")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="1.5GB", help="what ours may hold")
    parser.add_argument("--peer", help="the Python of an environment with datatrove")
    parser.add_argument("--language-model", type=Path, help="fastText's lid.176.ftz or .bin, for datatrove")
    parser.add_argument("--memory-plot", type=Path, help="draw memory against size into this file")
    parser.add_argument("--memory-sizes", type=int, nargs="+", default=MEMORY_SIZES, help="in megabytes")
    parser.add_argument("--as-peer", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_peer:
        return run_datatrove(*options.as_peer, options.language_model)
    if not options.data:
        parser.error("--data is needed, or GPT2LAB_TEST_DATA")
    result: dict[str, object] = {"machine": machine(), "workers": options.workers}
    if options.rounds:
        with tempfile.TemporaryDirectory() as folder:
            result["speed"] = compare(options, Path(folder))
    if options.memory_plot:
        result["memory"] = rows = [memory_at(options, size) for size in options.memory_sizes]
        draw_memory(rows, options.memory, options.memory_plot)
    print(json.dumps(result, indent=2))
    return 0


def machine() -> dict[str, str]:
    """What this ran on."""
    from gpt2lab.base.device import cpu_label

    names = ("gpt2lab", "numpy", "pyarrow", "py3langid", "fastokens")
    return {
        "cpu": cpu_label(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def write_corpus(data: Path, folder: Path, megabytes: int) -> float:
    """Write the corpus as JSON lines; returns its text's size in MB."""
    from gpt2lab.corpus.documents import read_documents

    rng = random.Random(0)
    folder.mkdir(parents=True)
    written, turn = 0, 0
    files = [(folder / f"{number}.jsonl").open("w", encoding="utf-8") for number in range(FILES)]
    books = sorted((data / "text" / "books").glob("*.jsonl.xz"))
    while written < megabytes * 1e6:  # read again, books give near-duplicates of their pieces
        for book in read_documents(books):
            for start in range(137 * turn, len(book.text), PIECE_CHARS):
                piece = book.text[start : start + PIECE_CHARS]
                for text in (piece, edited(piece, rng)) if rng.random() < 0.1 else (piece,):
                    record = json.dumps({"id": f"{turn}-{book.id}-{start}-{written}", "text": text})
                    rng.choice(files).write(record + "\n")
                    written += len(text.encode())
            if written >= megabytes * 1e6:
                break
        turn += 1
    for file in files:
        file.close()
    return written / 1e6


def edited(text: str, rng: random.Random) -> str:
    """A copy with up to ten words changed."""
    words = text.split(" ")
    for _ in range(rng.choice((0, 1, 3, 10))):
        words[rng.randrange(len(words))] = "edit"
    return " ".join(words)


def compare(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Both sides in turns: medians of their seconds, and MB/s of every stage."""
    size = write_corpus(options.data, folder / "sources", options.megabytes)
    sides = {"gpt2lab": lambda out: build(options, folder / "sources", out)}
    word_tokenizer = ""
    if options.peer:
        word_tokenizer = fastest_word_tokenizer(options.peer, folder / "sources")
        sides["datatrove"] = lambda out: build_with_peer(options, folder / "sources", out, word_tokenizer)
    runs: dict[str, list[dict[str, object]]] = {side: [] for side in sides}
    for number in range(options.rounds):
        for side, run in sides.items():
            runs[side].append(run(folder / f"{side}-{number}"))
            print(f"{side}, round {number + 1}: {runs[side][-1]}", file=sys.stderr, flush=True)
    seconds, used = (
        {side: statistics.median(run[kind] for run in rows) for side, rows in runs.items()}
        for kind in ("seconds", "cpu_seconds")
    )
    result: dict[str, object] = {
        "text_mb": round(size, 1),
        "seconds": seconds,
        "mb_per_second": {side: round(size / value, 2) for side, value in seconds.items()},
        "stages_mb_per_second": {side: stage_speeds(rows, size) for side, rows in runs.items()},
        "runs": runs,
    }
    if options.peer:
        result |= {
            "word_tokenizer": word_tokenizer,
            "ratio": round(seconds["datatrove"] / seconds["gpt2lab"], 2),
            "ratio of processor time": round(used["datatrove"] / used["gpt2lab"], 2),
        }
    return result


def stage_speeds(runs: list[dict[str, object]], size: float) -> dict[str, float]:
    """MB/s of text that each stage takes on all workers, from the medians of their seconds."""
    names = list(runs[0]["stages"])
    medians = {name: statistics.median(run["stages"][name] for run in runs) for name in names}
    return {name: round(size / max(value, 1e-3), 1) for name, value in medians.items()}


def build(options: argparse.Namespace, sources: Path, out: Path) -> dict[str, object]:
    """Ours: what `watched` says, seconds by stage (those of its tasks, shared by the workers), and counts."""
    command = [sys.executable, "-m", "gpt2lab", "corpus", "build", "webtext", str(sources), "--out", str(out)]
    command += ["--workers", str(options.workers), "--memory", options.memory]
    command += ["--shards.tokenizer", str(options.data / "tokenizer" / "gpt2")]
    if not options.language_model and options.peer:
        command.append("--language.no-english-only")  # then the other side does without it as well
    facts = watched(command)
    stages: dict[str, float] = {}
    for line in (out / "stages" / "log.jsonl").read_text().splitlines():
        row = json.loads(line)
        stages[row["stage"]] = stages.get(row["stage"], 0) + row["seconds"] / options.workers
    manifest = json.loads((out / "manifest.json").read_text())
    return {
        **facts,
        "stages": stages,
        "documents": manifest["funnel"][-1]["documents"],
        "tokens": sum(split["tokens"] for split in manifest["splits"].values()),
    }


def watched(command: list[str]) -> dict[str, float]:
    """Run a command; its seconds, those of processors, and the most megabytes that all its processes held.

    Pages that several processes share are counted for each of them, so that is rather too much.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    held, used = [0], [0]

    def watch() -> None:
        while process.poll() is None:
            n_bytes, ticks = tree_facts(process.pid)
            held.append(n_bytes)
            used.append(ticks)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}\nexit code {process.returncode}\n{errors.decode()}")
    return {
        "seconds": time.monotonic() - started,
        "cpu_seconds": max(used) / os.sysconf("SC_CLK_TCK"),
        "peak_mb": round(max(held) / 1e6),
    }


def tree_facts(pid: int) -> tuple[int, int]:
    """Memory resident in a process and all that it started, and the clock ticks that they ran for (Linux)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    held = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
    used = sum(map(int, fields[11:15]))  # its own, and those of children that have ended
    for child in children:
        more, ticks = tree_facts(int(child))
        held, used = held + more, used + ticks
    return held, used


def memory_at(options: argparse.Namespace, megabytes: int) -> dict[str, object]:
    """The most memory that building a corpus of this size takes."""
    with tempfile.TemporaryDirectory() as folder:
        size = write_corpus(options.data, Path(folder) / "sources", megabytes)
        run = build(options, Path(folder) / "sources", Path(folder) / "out")
    print(f"{size:.0f} MB: {run['peak_mb']} MB, {run['seconds']:.0f} s", file=sys.stderr, flush=True)
    return {"text_mb": round(size), "peak_mb": run["peak_mb"], "seconds": round(run["seconds"], 1)}


def draw_memory(rows: list[dict[str, object]], allowed: str, path: Path) -> None:
    """Most memory against the size of the text."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from gpt2lab.cli.corpus import parse_size

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    axes.plot(
        [row["text_mb"] for row in rows], [row["peak_mb"] for row in rows], "o-", label="most memory held"
    )
    axes.axhline(parse_size(allowed) / 1e6, color="#c4513c", ls=":", label=f"--memory {allowed}")
    axes.set(xlabel="text, MB", ylabel="MB", ylim=(0, None), xlim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160)


def fastest_word_tokenizer(peer: str, sources: Path) -> str:
    """Which of datatrove's word tokenisers that are there for English takes least time."""
    seconds = {}
    for name in WORD_TOKENIZERS:
        command = [peer, __file__, "--as-peer", "words", name, str(sources), ""]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode == 0:
            seconds[name] = float(result.stdout.split()[-1])
    print(f"word tokenisers of datatrove: {seconds}", file=sys.stderr, flush=True)
    return min(seconds, key=seconds.__getitem__)


def build_with_peer(
    options: argparse.Namespace, sources: Path, out: Path, word_tokenizer: str
) -> dict[str, object]:
    """datatrove's side: what `watched` says, seconds by stage, and tokens."""
    vocabulary = out.parent / "vocabulary"
    if not vocabulary.exists():
        from gpt2lab.tokenizer import load_tokenizer

        load_tokenizer(options.data / "tokenizer" / "gpt2").save(vocabulary)
    command = [options.peer, __file__, "--workers", str(options.workers)]
    if options.language_model:
        command += ["--language-model", str(options.language_model)]
    command += ["--as-peer", str(sources), str(out), word_tokenizer, str(vocabulary / "tokenizer.json")]
    facts = watched(command)
    return {**facts, **json.loads((out / "report.json").read_text())}


def run_datatrove(
    first: str, second: str, word_tokenizer: str, vocabulary: str, language_model: Path | None
) -> int:
    """What runs under the peer's Python: its pipeline, or a look at how fast one word tokeniser is."""
    if first == "words":
        tokenizer = _word_tokenizer(second)
        lines = (Path(word_tokenizer) / "0.jsonl").read_text(encoding="utf-8").splitlines()[:200]
        texts = [json.loads(line)["text"] for line in lines]
        tokenizer.word_tokenize(texts[0])
        started = time.process_time()
        for text in texts:
            tokenizer.word_tokenize(text)
        print(time.process_time() - started)
        return 0
    workers = int(sys.argv[sys.argv.index("--workers") + 1])
    _pipeline(first, second, _word_tokenizer(word_tokenizer), vocabulary, language_model, workers)
    return 0


def _word_tokenizer(name: str):  # type: ignore[no-untyped-def]
    from datatrove.utils.word_tokenizers import NLTKTokenizer, SpaCyTokenizer

    kind, _, language = name.partition("-")
    return SpaCyTokenizer(language) if kind == "spacy" else NLTKTokenizer("english")


def _pipeline(  # type: ignore[no-untyped-def]
    sources: str, out: str, word_tokenizer, vocabulary: str, language_model: Path | None, workers: int
) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.filters import LambdaFilter, LanguageFilter
    from datatrove.pipeline.formatters import SymbolLinesFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter

    clean = [SymbolLinesFormatter(symbols_to_remove=["|"]), LambdaFilter(_long_enough)]
    if language_model:
        english = LanguageFilter("en")
        english.model.MODEL_URL = str(language_model)  # of this object, so that it travels to the workers
        clean.append(english)
    signatures, buckets, removed, kept = (f"{out}/{name}" for name in ("sigs", "buckets", "removed", "kept"))
    stages = {
        "read and filter": (FILES, [JsonlReader(sources), *clean, JsonlWriter(kept, compression=None)]),
        "signatures": (
            FILES,
            [JsonlReader(kept), MinhashDedupSignature(signatures, language=word_tokenizer)],
        ),
        "buckets": (14, [MinhashDedupBuckets(signatures, buckets)]),
        "clusters": (1, [MinhashDedupCluster(buckets, removed)]),
        "tokens": (
            FILES,
            [
                JsonlReader(kept),
                MinhashDedupFilter(removed),
                DocumentTokenizer(
                    f"{out}/tokens", vocabulary, eos_token="<|endoftext|>", shuffle_documents=False
                ),
            ],
        ),
    }
    seconds = {}
    for name, (tasks, steps) in stages.items():
        started = time.monotonic()
        LocalPipelineExecutor(
            steps, tasks=tasks, workers=workers, logging_dir=f"{out}/logs/{name.replace(' ', '-')}"
        ).run()
        seconds[name] = time.monotonic() - started
    tokens = sum(path.stat().st_size // 2 for path in Path(out, "tokens").glob("*.ds"))
    Path(out, "report.json").write_text(json.dumps({"stages": seconds, "tokens": tokens}))


def _long_enough(document) -> bool:  # type: ignore[no-untyped-def]
    return len(document.text) >= 128


if __name__ == "__main__":
    sys.exit(main())
