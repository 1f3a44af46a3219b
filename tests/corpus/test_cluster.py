"""The same corpus built by processes, by Daft and on Ray: the same files, byte for byte."""

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2lab.base.errors import UserError

pytestmark = pytest.mark.slow


def build(folder, out, *options):
    command = [sys.executable, "-m", "gpt2lab", "corpus", "build", "webtext", "sources", "--out", out]
    command += ["--workers", "2", "--memory", "2GB", "--shards.tokenizer", "vocabulary", *options]
    command += ["--language.no-english-only", "--shards.validation-fraction", "0.2"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    files = (path for path in (folder / out).rglob("*") if path.is_file() and path.name != "log.jsonl")
    return {path.relative_to(folder / out).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def folder(made, tmp_path):
    source = random.Random(0)
    found = ["".join(source.choices("abcdefgh", k=source.randint(2, 7))) for _ in range(500)]
    texts = [" ".join(source.choices(found, k=60)) for _ in range(90)]
    texts += [f"{text} edit" for text in texts[:20]]
    (tmp_path / "sources").mkdir()
    for number in range(4):
        lines = [json.dumps({"text": text}) for text in texts[number::4]]
        (tmp_path / "sources" / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "vocabulary").symlink_to(made / "vocabulary")
    return tmp_path


@pytest.mark.parametrize("backend", ["daft", "ray"])
def test_the_result_does_not_depend_on_who_does_the_work(folder, backend):
    for package in {"daft", backend}:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    own = build(folder, "own")
    assert build(folder, "other", "--on", backend) == own
    assert json.loads(own["manifest.json"])["near_duplicates"]["duplicates"] == 20


def test_errors_of_workers_come_through(tmp_path):
    pytest.importorskip("daft")
    from gpt2lab.base.files import read_text
    from gpt2lab.corpus.cluster import Cluster

    cluster = Cluster("daft", 2)
    (tmp_path / "a").write_text("here")
    assert list(cluster.map(read_text, [tmp_path / "a"] * 3)) == [(i, "here") for i in range(3)]
    with pytest.raises(UserError, match="no such file"):
        list(cluster.map(read_text, [Path("nowhere")]))
