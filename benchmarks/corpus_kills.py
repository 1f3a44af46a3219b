"""Kill the building of a corpus with `kill -9` at random moments, go on, and compare with one left alone.

A corpus is built once without disturbance, on two worker processes. Then it is built again in another folder,
and each process is killed at a random moment of its life (workers must end with it), until so many kills were
survived; a build that came to its end before its kill starts over in a new folder. At the end every file must
be the same, byte for byte, but for the log of times.

    python benchmarks/corpus_kills.py --kills 20

One line of progress on standard error, a table as JSON on standard output. Exit code 1 if any file differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOG_NAME = "log.jsonl"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--documents", type=int, default=4000, help="in the corpus that is built")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which to kill")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder), options.documents)
        row = torture(Path(folder), options.kills, random.Random(options.seed))
    print(json.dumps(row, indent=2))
    return 0 if row["identical"] else 1


def write_sources(folder: Path, n_documents: int) -> None:
    """Six files of documents, some of them equal or nearly so, and a vocabulary."""
    from gpt2lab.tokenizer import train_bpe

    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 7))) for _ in range(3000)]
    texts: list[str] = []
    for number in range(n_documents):
        if texts and number % 5 == 0:  # a copy, or nearly one
            changed = rng.choice(texts[-200:]).split(" ")
            changed[rng.randrange(len(changed))] = rng.choice(("edit", changed[0]))
            texts.append(" ".join(changed))
        else:
            texts.append(" ".join(rng.choices(words, k=rng.randint(20, 400))))
    sources = folder / "sources"
    sources.mkdir()
    for number in range(6):
        lines = (json.dumps({"text": text}) for text in texts[number::6])
        (sources / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    train_bpe(texts[:200], 400).save(folder / "vocabulary")


def torture(folder: Path, kills: int, rng: random.Random) -> dict[str, object]:
    """The corpus built alone, the one whose building is killed, and how they compare."""
    alone = folder / "alone"
    started = time.monotonic()
    finish(start(folder, alone))
    seconds = time.monotonic() - started
    built = [folder / "killed-0"]
    survived = 0
    while survived < kills:
        process = start(folder, built[-1])
        try:
            process.wait(rng.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()  # the process alone: that its workers end too is a part of what is shown
            survived += 1
        finish(process, killed=True)
        if process.returncode == 0:  # it came to its end before its kill: the next starts over
            built.append(folder / f"killed-{len(built)}")
        print(f"{survived} kills, {len(built)} builds", file=sys.stderr, flush=True)
    finish(start(folder, built[-1]))
    return {
        "kills": survived,
        "builds": len(built),
        "uninterrupted_seconds": round(seconds, 1),
        "files": len(contents(alone)),
        "identical": all(contents(other) == contents(alone) for other in built),
    }


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    """Begin the building, or go on with it."""
    command = [sys.executable, "-m", "gpt2lab", "corpus", "build", "webtext", "sources", "--out", str(out)]
    command += ["--workers", "2", "--memory", "1GB", "--shards.tokenizer", "vocabulary"]
    command += ["--language.no-english-only", "--shards.validation-fraction", "0.1"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Who was started in a shell's background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[bytes], *, killed: bool = False) -> None:
    """Wait for a process to end, as it should."""
    _, errors = process.communicate()
    if process.returncode and not (killed and process.returncode == -signal.SIGKILL):
        raise RuntimeError(f"exit code {process.returncode}\n{errors.decode()}")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a corpus by its name, but for the log of times."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOG_NAME)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


if __name__ == "__main__":
    sys.exit(main())
