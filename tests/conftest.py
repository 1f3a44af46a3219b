"""What every test may ask for."""

import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# How long an example takes says nothing on a busy machine.
# Continuous integration tries the same examples each time; elsewhere every run tries new ones.
settings.register_profile("gpt2lab", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("gpt2lab")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of public test data, named by GPT2LAB_TEST_DATA; the test skips where it is unset."""
    folder = os.environ.get("GPT2LAB_TEST_DATA")
    if not folder:
        pytest.skip("GPT2LAB_TEST_DATA is not set: public vocabularies, books and goldens are not at hand")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny matrices: a second thread only waits, above all on a busy machine."""
    torch.set_num_threads(1)


TINY_RECIPE = """
batch_tokens = 64
micro_batch = 2
device = "cpu"
precision = "float32"
compile = "off"
log_every = 1
validate_every = 2
validate_tokens = 256
save_every = 2
[model]
vocab_size = 300
context_length = 16
n_layer = 2
n_head = 2
n_embd = 32
[data]
path = "text.txt"
tokenizer = "vocabulary"
[schedule]
steps = 4
warmup_steps = 1
"""


@pytest.fixture(scope="session")
def tiny_recipe() -> str:
    """What stands in the `tiny.toml` of `made`."""
    return TINY_RECIPE


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user might have it: text.txt, vocabulary/, tiny.toml, and done/, the run made of them."""
    from gpt2lab.cli.main import main
    from gpt2lab.tokenizer import train_bpe

    folder = tmp_path_factory.mktemp("made")
    rng = random.Random(0)
    words = ["café", *("".join(rng.choices("abcdefgh", k=5)) for _ in range(60))]
    text = "\n\n".join(" ".join(rng.choices(words, k=12)) for _ in range(300))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    train_bpe([text], 300).save(folder / "vocabulary")
    (folder / "tiny.toml").write_text(TINY_RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "tiny.toml", "--out", "done"]) == 0
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made` for one test, which is its working directory."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"
