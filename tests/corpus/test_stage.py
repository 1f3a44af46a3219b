"""A stage does what is not done yet, and nothing else."""

import json
import shutil

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.corpus import stage as stage_module
from gpt2lab.corpus.code_version import code_version
from gpt2lab.corpus.stage import Stage, Task, Workshop, file_facts, run_stage
from gpt2lab.corpus.workers import Processes

CALLS = []


def shout(call):
    CALLS.append(call.inputs[0].name)
    text = call.inputs[0].read_text().upper() * call.parameters["times"]
    if "FAIL" in text:
        call.outputs[0].write_text("half of i")
        raise UserError("failed", fix="Do not")
    call.outputs[0].write_text(text)
    call.outputs[1].write_text(str(len(text)))
    return {"characters": len(text)}


@pytest.fixture
def files(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name * 3)
    return tmp_path


def run(files, times=1, names="abc"):
    """Which of the tasks were done, and what came of all."""
    CALLS.clear()
    tasks = [Task(name, (file_facts(files / f"{name}.txt"),)) for name in names]
    workshop = Workshop(files, Processes(1), 10**9)
    done = run_stage(Stage("shout", shout, ("txt", "size"), {"times": times}), tasks, workshop)
    return "".join(name[0] for name in CALLS), done


def test_outputs_counts_and_manifest(files):
    called, done = run(files, times=2)
    assert called == "abc"
    assert [one.counts for one in done] == [{"characters": 6}] * 3
    text, size = done[1].outputs
    assert (text.path.read_text(), size.path.read_text()) == ("BBBBBB", "6")
    manifest = json.loads((files / "stages" / "shout" / "b.json").read_text())
    assert manifest["parameters"] == {"times": 2}
    assert manifest["outputs"][0] == {"file": "b.txt", "size": 6, "sha256": text.sha256}
    assert manifest["inputs"][0]["size"] == 3
    assert manifest["counts"] == {"characters": 6}


def test_a_second_run_does_nothing_and_returns_the_same(files):
    _, first = run(files)
    called, second = run(files)
    assert called == ""
    assert second == first


def test_only_what_changed_is_done_again(files, monkeypatch):
    run(files)
    (files / "b.txt").write_text("xyz")
    called, done = run(files)
    assert called == "b"
    assert done[1].outputs[0].path.read_text() == "XYZ"
    assert run(files, times=2)[0] == "abc"
    monkeypatch.setattr(stage_module, "code_version", lambda module: "newer")
    assert run(files, times=2)[0] == "abc"


@pytest.mark.parametrize("harm", ["remove", "cut", "no manifest"])
def test_what_is_missing_or_cut_short_is_done_again(files, harm):
    run(files)
    output = files / "stages" / "shout" / "c.txt"
    if harm == "remove":
        output.unlink()
    elif harm == "cut":
        output.write_text("C")
    else:
        (files / "stages" / "shout" / "c.json").unlink()
    assert run(files)[0] == "c"
    assert output.read_text() == "CCC"


def test_a_source_that_was_taken_away_leaves_nothing_behind(files):
    run(files)
    run(files, names="ac")
    names = sorted(path.name for path in (files / "stages" / "shout").iterdir())
    assert names == ["a.json", "a.size", "a.txt", "c.json", "c.size", "c.txt"]


def test_a_task_that_fails_keeps_the_others_and_leaves_no_half_file(files):
    (files / "b.txt").write_text("fail")
    with pytest.raises(UserError, match="failed"):
        run(files)
    names = sorted(path.name for path in (files / "stages" / "shout").iterdir())
    assert names == ["a.json", "a.size", "a.txt"]
    (files / "b.txt").write_text("fine")
    assert run(files)[0] == "bc"


def test_outputs_of_other_parameters_are_never_taken_for_done(files):
    """Killed between the outputs and the manifest: the old manifest must not vouch for new outputs."""
    run(files)
    folder = files / "stages" / "shout"
    saved = (folder / "a.json").read_bytes()

    class Killed(BaseException):
        pass

    def killed(path, value):
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(stage_module, "write_json", killed)
        run(files, times=2)
    assert not (folder / "a.json").exists()
    assert saved
    assert run(files)[0] == "a"


def test_the_code_version_follows_imports(tmp_path, monkeypatch):
    package = tmp_path / "gpt2lab" / "corpus"
    shutil.copytree(stage_module.Path(stage_module.__file__).parent, package)
    modules = ("filters", "sources", "exact_duplicates")
    before = {name: _version(tmp_path, name) for name in modules}
    assert len(set(before.values())) == 3
    (package / "clean.py").write_text((package / "clean.py").read_text() + "\n# changed\n")
    after = {name: _version(tmp_path, name) for name in modules}
    assert after["filters"] != before["filters"]
    assert after["exact_duplicates"] == before["exact_duplicates"]
    assert code_version("json") == code_version("re")  # nothing of ours in them


def _version(root, name):
    """The version of a module as a Python that finds the package in `root` computes it."""
    import importlib.util
    from unittest import mock

    def find(module):
        path = root.joinpath(*module.split(".")).with_suffix(".py")
        return mock.Mock(origin=str(path)) if path.exists() else None

    code_version.cache_clear()
    with mock.patch.object(importlib.util, "find_spec", find):
        version = code_version(f"gpt2lab.corpus.{name}")
    code_version.cache_clear()
    return version
