"""The README's commands and code are run, one after the other, in a folder of small stand-ins.

Stand-ins: a few modules' documentation for `texts/`, a tiny model for the demo's run and for the published
`gpt2` (which lies in the Hub's cache as if downloaded), small shards for FineWeb. Options that make a command
short are appended; the words of the README themselves are run as they are.
"""

import itertools
import re
import shlex
from pathlib import Path

import pytest
import torch

import gpt2lab
from gpt2lab.cli.main import _VERBS, main
from gpt2lab.corpus.build import prepare
from gpt2lab.corpus.python_docs import read_python_docs
from gpt2lab.tokenizer import train_bpe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = "--compile off --minutes 0 --schedule.steps 2 --schedule.warmup-steps 1 --validate-tokens 512"
APPENDED = {
    'gpt2lab generate runs/demo/run "The function returns" --temperature 0.7': "--max-new-tokens 4",
    "gpt2lab doctor": "",
    "gpt2lab tokenizer train texts/ --vocab-size 8192 --out vocab/": "",
    "gpt2lab train laptop-10m --data.path texts/ --data.tokenizer vocab/ --minutes 30": f"{SHORT} "
    "--batch-tokens 512 --model.n-layer 1 --model.n-embd 20 --model.context-length 64",
    'gpt2lab generate runs/laptop-10m "Once upon a time"': "--max-new-tokens 4",
    "gpt2lab corpus build books texts/ --out corpus/": "--shards.validation-fraction 0.2",
    "gpt2lab corpus inspect corpus/": "",
    "gpt2lab train gpt2-124m": f"--data fineweb10B/ {SHORT} --batch-tokens 512 --model.vocab-size 400 "
    "--model.n-layer 1 --model.n-embd 24 --model.context-length 64",
    "gpt2lab train gpt2-124m --dry-run --hardware h100 --devices 8": "",
    'gpt2lab generate gpt2 "In a shocking finding," --top-k 40 --seed 1': "--max-new-tokens 4",
}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def shell_lines():
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """An empty folder but for what the README's reader has; the current folder from here on."""
    from huggingface_hub import constants

    documents = list(itertools.islice(read_python_docs(), 150))
    (tmp_path / "texts").mkdir()
    for number, document in enumerate(documents):
        (tmp_path / "texts" / f"{number}.txt").write_text(document.text, encoding="utf-8")
    tokenizer = train_bpe([document.text for document in documents], 400)
    prepare([tmp_path / "texts"], tokenizer, tmp_path / "fineweb10B", 0.1)
    config = gpt2lab.ModelConfig(vocab_size=400, context_length=64, n_layer=1, n_head=2, n_embd=16)
    model = gpt2lab.GPT(config).initialise(torch.Generator().manual_seed(0))
    gpt2lab.save(model, tokenizer, tmp_path / "runs/demo/run")
    published = tmp_path / "cache/models--openai-community--gpt2"
    gpt2lab.save(model, tokenizer, published / "snapshots" / ("a" * 40))
    (published / "refs").mkdir()
    (published / "refs/main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


def test_every_command_is_run(stand_ins, capsys):
    lines = [line for line in shell_lines() if line.startswith("gpt2lab")]
    assert sorted(lines) == sorted(APPENDED)  # a new command needs its stand-ins here
    for line in lines:
        words = shlex.split(line)[1:] + shlex.split(APPENDED[line])
        try:
            exit_code = main(words)
        except SystemExit as end:
            exit_code = end.code
        captured = capsys.readouterr()
        assert exit_code == 0, f"{line}\n{captured.err}"
        assert captured.out.strip()
    assert main(["train", "runs/laptop-10m"]) == 0  # as the text says: goes on, here with a finished run
    assert "Done." in capsys.readouterr().out
    assert Path("runs/laptop-10m/loss.png").is_file()


def test_the_python_code_runs(stand_ins, capsys):
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert "1557611200" in capsys.readouterr().out.splitlines()[-1]
    assert (Path("my-model") / "model.safetensors").is_file()


def test_every_make_target_exists():
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = [line.split()[1] for line in shell_lines() if line.startswith("make")]
    assert set(named) <= set(targets)
    assert {"demo", "test"} <= set(named)
    assert [line for line in shell_lines() if not line.startswith(("make", "gpt2lab"))] == []


def test_the_table_of_commands_has_every_verb():
    assert re.findall(r"^\| `gpt2lab (\w+)", README, flags=re.MULTILINE) != []
    assert set(re.findall(r"^\| `gpt2lab (\w+)", README, flags=re.MULTILINE)) == set(_VERBS)


def test_every_link_leads_somewhere():
    for page in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert target.startswith("https://") or (ROOT / target).exists(), (page, target)


def test_the_architecture_page_lists_every_file_and_no_other():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split("## Every file")[1]
    floors = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    listed = {
        (floor.split()[0], name) for floor in floors for name in re.findall(r"^- `([\w/]+\.py)`", floor, re.M)
    }
    package = ROOT / "src" / "gpt2lab"
    files = (path.relative_to(package) for path in package.rglob("*.py") if path.name != "__init__.py")
    there = {(path.parts[0], "/".join(path.parts[1:])) for path in files if len(path.parts) > 1}
    assert listed == there
