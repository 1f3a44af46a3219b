"""The command itself: what it says of itself, how it takes a misspelt verb, and how little it loads."""

import os
import subprocess
import sys

import pytest

import gpt2lab
from gpt2lab.cli.main import _VERBS, main

HEAVY = {"torch", "numpy", "transformers", "matplotlib", "tiktoken", "rich", "safetensors", "huggingface_hub"}


def python(*arguments):
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"]])
def test_help_names_every_verb(words, capsys):
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {verb} " in out for verb in _VERBS)
    assert max(map(len, out.splitlines())) <= 80


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gpt2lab {gpt2lab.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "advice"),
    [("trian", "Did you mean `gpt2lab train`."), ("genrate", "Did you mean `gpt2lab generate`."),
     ("frobnicate", "See `gpt2lab --help`.")],
)  # fmt: skip
def test_an_unknown_verb(typed, advice, capsys):
    assert main([typed, "--help"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"gpt2lab: error: there is no command '{typed}'. {advice}\n"


def test_python_m_gpt2lab_is_the_same_command(capsys):
    process = python("-m", "gpt2lab", "--help")
    assert process.returncode == 0
    assert process.stderr == ""
    main(["--help"])
    assert process.stdout == capsys.readouterr().out
    assert python("-m", "gpt2lab", "trian").returncode == 2


@pytest.mark.parametrize(
    "code", ["import gpt2lab", "from gpt2lab.cli.main import main; main(['--help'])"], ids=["import", "help"]
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code):
    process = python("-c", f"{code}; import sys; print(*sys.modules, file=sys.stderr)")
    assert process.returncode == 0, process.stderr
    loaded = {name.partition(".")[0] for name in process.stderr.split()}
    assert "gpt2lab" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("verb", ["demo", "doctor", "generate", "tokenizer"])
def test_a_verbs_help_does_not_load_torch(verb):
    code = f"""
import sys
from gpt2lab.cli.main import main
try:
    main([{verb!r}, "--help"])
except SystemExit as end:
    assert not end.code
assert "torch" not in sys.modules
"""
    process = python("-c", code)
    assert process.returncode == 0, process.stderr
    assert "--help" in process.stdout


def test_the_public_names_are_there():
    for name in ("load", "save", "generate", "ModelConfig", "count_parameters", "GPT", "UserError"):
        assert name in dir(gpt2lab)
        assert callable(getattr(gpt2lab, name))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        gpt2lab.lode  # noqa: B018
