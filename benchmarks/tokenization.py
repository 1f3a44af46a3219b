"""How fast is encoding and vocabulary training, beside the libraries others use?

    python benchmarks/tokenization.py --data DIR

DIR (or GPT2LAB_TEST_DATA) holds OpenAI's GPT-2 vocabulary (tokenizer/gpt2) and books (text/books/*.jsonl.xz).
Every measurement is a process of its own with cold caches, pinned to its cores; libraries take turns within
each round. Each library gives tokens in the form that costs it least. Slow ones get the first books only.
Figures are medians.
"""

import argparse
import hashlib
import json
import lzma
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Texts = list[str]
Encode = Callable[[Texts], Sequence[Any]]

BOUNDARY = b"\xff"
CORES = (1, 2)
SLOW = {"tokenizers": 0.1, "tiktoken": 0.3, "gpt2lab, one by one": 0.3}  # share of the text they get


def ours(folder: Path, cores: int) -> Encode:
    from gpt2lab.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    tokenizer.encode_batch([""])  # builds the engine
    return tokenizer.encode_batch


def ours_one_by_one(folder: Path, cores: int) -> Encode:
    from gpt2lab.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    tokenizer.encode("")
    return lambda texts: [tokenizer.encode(text) for text in texts]


def tiktoken(folder: Path, cores: int) -> Encode:
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks
    from tiktoken_ext.openai_public import r50k_pat_str

    ranks = data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"), str(folder / "encoder.json"))
    encoding = tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={})
    threads = ThreadPoolExecutor(cores)
    return lambda texts: list(threads.map(encoding.encode_to_numpy, texts))


def hugging_face(folder: Path, cores: int) -> Encode:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_str(_tokenizer_json(folder))
    return lambda texts: [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]


def fastokens(folder: Path, cores: int) -> Encode:
    import fastokens
    import numpy as np

    tokenizer = fastokens.Tokenizer.from_json_str(_tokenizer_json(folder))

    def encode(texts: Texts) -> Sequence[Any]:
        ids, ends = tokenizer.encode_batch_flat(texts)
        return np.split(np.frombuffer(ids, "<u4"), np.frombuffer(ends, "<u8")[1:-1].astype(np.int64))

    return encode


def gigatoken(folder: Path, cores: int) -> Encode:
    import gigatoken

    return gigatoken.Tokenizer.from_json(_tokenizer_json(folder)).encode_batch


def _tokenizer_json(folder: Path) -> str:
    """Without special tokens, so that all text is plain text to every library."""
    from gpt2lab.tokenizer.vocabulary_files import read_vocabulary, tokenizer_json

    return json.dumps(tokenizer_json(read_vocabulary(folder), with_special=False))


ENCODERS = {
    "gpt2lab": ours,
    "gpt2lab, one by one": ours_one_by_one,
    "tiktoken": tiktoken,
    "tokenizers": hugging_face,
    "fastokens": fastokens,
    "gigatoken": gigatoken,
}


def train_ours(corpus: Path, vocab_size: int) -> list[list[str]]:
    from gpt2lab.tokenizer import train_bpe

    tokenizer = train_bpe(_texts(corpus, 1.0), vocab_size)
    return [list(pair) for pair in tokenizer.vocabulary.merges]


def train_hugging_face(corpus: Path, vocab_size: int) -> list[list[str]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(corpus, 1.0), trainer)
    merges: list[list[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return merges


TRAINERS = {"gpt2lab": train_ours, "tokenizers": train_hugging_face}


def measure(task: str, name: str, cores: int, corpus: Path, vocabulary: Path) -> dict[str, Any]:
    """One measurement, in this process."""
    if task == "train":
        started = time.perf_counter()
        merges = TRAINERS[name](corpus, 50257)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "result": hashlib.sha256(json.dumps(merges).encode()).hexdigest()}
    import numpy as np

    texts = _texts(corpus, SLOW.get(name, 1.0))
    encode = ENCODERS[name](vocabulary, cores)
    started = time.perf_counter()
    tokens = encode(texts)
    seconds = time.perf_counter() - started
    digest, n_compared = hashlib.sha256(), 0
    compared_bytes = corpus.stat().st_size * min(SLOW.values()) / 2  # of text that all libraries get
    for text, ids in zip(texts, tokens, strict=True):
        if n_compared < compared_bytes:
            n_compared += len(text.encode())
            digest.update(np.asarray(ids, dtype=np.uint16).tobytes())
    n_bytes = sum(len(text.encode()) for text in texts)
    return {"MB/s": n_bytes / 1e6 / seconds, "result": digest.hexdigest()}


def _texts(corpus: Path, share: float) -> Texts:
    """The first texts of the corpus file, up to a share of it."""
    data = corpus.read_bytes()
    end = data.index(BOUNDARY, int(len(data) * share) - 1)
    return [text.decode() for text in data[:end].split(BOUNDARY)]


def write_corpus(books: Path, corpus: Path, n_bytes: int) -> int:
    """Whole books until there are `n_bytes`; returns how many there are."""
    written = 0
    with corpus.open("wb") as out:
        for file in sorted(books.glob("*.jsonl.xz")):
            with lzma.open(file, "rt", encoding="utf-8") as lines:
                for line in lines:
                    if written < n_bytes:
                        written += out.write(json.loads(line)["text"].encode() + BOUNDARY)
    return written


def in_child(task: str, name: str, cores: int, corpus: Path, vocabulary: Path) -> dict[str, Any]:
    """Run `measure` in a fresh process on the first `cores` of ours."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(cores), "TOKENIZERS_PARALLELISM": "true"}
    command = [
        sys.executable,
        __file__,
        "--child",
        json.dumps([task, name, cores, str(corpus), str(vocabulary)]),
    ]
    output = subprocess.run(
        command,
        env=environment,
        check=True,
        capture_output=True,
        preexec_fn=lambda: _pin(cores),
    ).stdout
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def _pin(cores: int) -> None:
    if sys.platform == "linux":  # elsewhere the libraries' own settings must do
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def installed(names: Sequence[str]) -> list[str]:
    return [name for name in names if find_spec(name.partition(",")[0])]


def run(arguments: argparse.Namespace, corpus: Path) -> list[dict[str, Any]]:
    """All rounds; a row for each task, library and number of cores."""
    vocabulary = arguments.data / "tokenizer" / "gpt2"
    jobs = [("encode", name, cores) for cores in CORES for name in installed(list(ENCODERS))]
    training_jobs = [("train", name, max(CORES)) for name in installed(list(TRAINERS))]
    answers: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for round_number in range(arguments.rounds):
        for job in jobs + training_jobs:
            print(f"round {round_number + 1}: {job[0]}, {job[1]}, {job[2]} cores", file=sys.stderr)
            answers.setdefault(job, []).append(in_child(*job, corpus, vocabulary))
    rows = []
    for (task, name, cores), results in answers.items():
        unit = "MB/s" if task == "encode" else "seconds"
        values = [result[unit] for result in results]
        base = statistics.median(result[unit] for result in answers[task, "gpt2lab", cores])
        same = {result["result"] for result in results} == {answers[task, "gpt2lab", cores][0]["result"]}
        median = statistics.median(values)
        times = base / median if task == "encode" else median / base
        rows.append(
            {"task": task, "name": name, "cores": cores, "unit": unit, "median": median}
            | {"all": values, "gpt2lab is faster by": times, "same result as gpt2lab": same}
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| task | cores | library | median | lowest to highest | gpt2lab is faster by | same result |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        digits = 0 if row["median"] >= 100 else 1
        spread = f"{min(row['all']):.{digits}f} to {max(row['all']):.{digits}f}"
        times, same = f"{row['gpt2lab is faster by']:.2f}x", "yes" if row["same result as gpt2lab"] else "NO"
        median = f"{row['median']:.{digits}f} {row['unit']}"
        lines.append(
            f"| {row['task']} | {row['cores']} | {row['name']} | {median} | {spread} | {times} | {same} |"
        )
    return "\n".join(lines)


def machine_and_versions() -> dict[str, Any]:
    from gpt2lab.base.device import cpu_label

    versions = {}
    for package in ("gpt2lab", "tiktoken", "tokenizers", "fastokens", "gigatoken", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {"cpu": cpu_label(), "system": platform.platform(), "python": platform.python_version()} | versions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("GPT2LAB_TEST_DATA"),
        help="folder with tokenizer/gpt2 and text/books (default: GPT2LAB_TEST_DATA)",
    )
    parser.add_argument("--megabytes", type=int, default=100, help="of text (default: 100; at least 20)")
    parser.add_argument("--rounds", type=int, default=5, help="of every measurement (default: 5)")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    arguments = parser.parse_args()
    if arguments.megabytes < 20:
        parser.error("less than 20 MB of text are too few for a vocabulary of 50,257 tokens")
    if arguments.data is None:
        print("not run: it needs a folder of data, by --data or GPT2LAB_TEST_DATA")
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        n_bytes = write_corpus(arguments.data / "text" / "books", corpus, arguments.megabytes * 1_000_000)
        rows = run(arguments, corpus)
    facts = machine_and_versions()
    if arguments.out:
        arguments.out.write_text(
            json.dumps({"machine": facts, "bytes": n_bytes, "rows": rows}, indent=2) + "\n"
        )
    print(f"{n_bytes / 1e6:.0f} MB of books; {', '.join(f'{key} {value}' for key, value in facts.items())}\n")
    print(table(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        task, name, cores, corpus, vocabulary = json.loads(sys.argv[2])
        print(json.dumps(measure(task, name, cores, Path(corpus), Path(vocabulary))))
    else:
        main()
