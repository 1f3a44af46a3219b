"""Building a corpus stays within the memory it is allowed, whatever the corpus's size."""

import argparse
import importlib.util
from pathlib import Path

import pytest

from gpt2lab.cli.corpus import parse_size
from gpt2lab.corpus import documents


@pytest.mark.slow
@pytest.mark.parametrize(
    ("megabytes", "memory", "workers"), [(20, "700MB", 2), (60, "700MB", 2), (60, "1.3GB", 2)]
)
def test_most_memory_held_is_what_is_allowed(test_data, tmp_path, megabytes, memory, workers):
    path = Path(documents.__file__).parents[3] / "benchmarks" / "corpus_pipeline.py"
    if not path.exists() or not Path("/proc/self/task").exists():
        pytest.skip("the benchmarks are not beside the package, or this is no Linux")
    spec = importlib.util.spec_from_file_location("corpus_pipeline", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    benchmark.write_corpus(test_data, tmp_path / "sources", megabytes)
    options = argparse.Namespace(
        workers=workers, memory=memory, data=test_data, language_model=None, peer=None
    )
    run = benchmark.build(options, tmp_path / "sources", tmp_path / "out")
    assert run["documents"] > 50 * megabytes
    assert run["peak_mb"] * 1e6 <= parse_size(memory)
