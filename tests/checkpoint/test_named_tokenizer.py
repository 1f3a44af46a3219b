"""The tokenizer a user means: by a file, a folder, a model or a run."""

import subprocess
import sys

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.checkpoint.named_tokenizer import load_tokenizer_of
from gpt2lab.tokenizer import load_tokenizer
from gpt2lab.tokenizer.vocabulary_files import FILE_PAIRS, holds_vocabulary
from gpt2lab.training.run import RunFolder


def test_every_way_to_name_it_gives_the_same(made):
    expected = load_tokenizer(made / "vocabulary").fingerprint
    run = RunFolder(made / "done")
    for name in ("vocabulary", "vocabulary/tokenizer.json", "vocabulary/merges.txt", "done"):
        assert load_tokenizer_of(made / name).fingerprint == expected
        assert load_tokenizer_of(str(made / name)).fingerprint == expected
    assert load_tokenizer_of(run.checkpoint(4)).fingerprint == expected


def test_a_run_that_has_saved_nothing_has_none(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="this run has saved no checkpoint yet"):
        load_tokenizer_of(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", *(ids for ids, _ in FILE_PAIRS)])
def test_any_file_that_numbers_tokens_shows_that_there_is_one(tmp_path, name):
    assert not holds_vocabulary(tmp_path)
    (tmp_path / "config.json").touch()
    assert not holds_vocabulary(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert holds_vocabulary(tmp_path)


def test_it_comes_without_pytorch(made):
    code = (
        "import sys; from gpt2lab.checkpoint.named_tokenizer import load_tokenizer_of; "
        f"load_tokenizer_of({str(made / 'done')!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
