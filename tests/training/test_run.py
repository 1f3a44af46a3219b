import subprocess
import sys

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.training.run import RunFolder


@pytest.fixture
def run(tmp_path, make_recipe):
    return RunFolder.create(tmp_path / "run", make_recipe())


def rows(*steps):
    return [{"kind": "train", "step": step, "loss": 1.5, "text": "Zoë\n"} for step in steps]


def test_a_new_run_holds_its_recipe_and_nothing_else(run, make_recipe):
    assert run.recipe() == make_recipe()
    assert run.facts() is None
    assert run.metrics() == []
    assert RunFolder.is_one(run.path)
    run.save_facts({"steps": 3})
    assert run.facts() == {"steps": 3}


def test_a_started_run_is_not_started_again(run, make_recipe):
    with pytest.raises(UserError, match=r"a run was already started.*Go on with it: `gpt2lab train .*run`"):
        RunFolder.create(run.path, make_recipe())


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path, make_recipe):
    (tmp_path / "thesis.tex").write_text("precious")
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(UserError, match="not an empty folder"):
            RunFolder.create(path, make_recipe())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_process_killed_at_its_very_start_leaves_is_no_obstacle(tmp_path, make_recipe):
    (tmp_path / ".tmp-123-recipe.toml").write_text("bat")
    run = RunFolder.create(tmp_path, make_recipe())
    with run.locked():
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "recipe.toml"]


@pytest.mark.parametrize("torn", ['{"kind": "train", "st', '{"kind": "train", "step": 4}', "\ufffd"])
def test_a_torn_last_line_of_the_metrics_does_not_count(run, torn):
    for row in rows(1, 2, 3):
        run.add_metrics(row)
    with run.metrics_path.open("a") as file:
        file.write(torn)
    assert run.metrics() == rows(1, 2, 3)
    run.cut_metrics(2)
    run.add_metrics(rows(3)[0])
    assert run.metrics() == rows(1, 2, 3)


@pytest.mark.parametrize(("step", "left"), [(None, 0), (0, 0), (1, 1), (2, 3), (9, 4)])
def test_metrics_are_cut_back_to_a_step(run, step, left):
    for row in rows(1, 2, 2, 3):
        run.add_metrics(row)
    run.cut_metrics(step)
    assert run.metrics() == rows(1, 2, 2, 3)[:left]


@pytest.mark.parametrize("best", [-1, 2, 8])
def test_the_two_newest_checkpoints_and_the_best_are_kept(run, best):
    for step in (2, 4, 6, 8, 10):
        run.checkpoint(step).mkdir(parents=True)
        (run.checkpoint(step) / "file").touch()
    run.prune(best)
    left = [path.name for path in sorted((run.path / "checkpoints").iterdir())]
    assert left == [run.checkpoint(step).name for step in sorted({8, 10, best} - {-1})]


def test_a_damaged_checkpoint_is_renamed_over_an_earlier_one(run):
    for text in ("older", "newer"):
        run.checkpoint(2).mkdir(parents=True)
        (run.checkpoint(2) / text).touch()
        aside = run.set_aside(run.checkpoint(2))
    assert [path.name for path in aside.iterdir()] == ["newer"]
    assert not run.checkpoint(2).exists()


def test_the_lock_keeps_a_second_process_out_and_dies_with_its_holder(run):
    script = f"""
import pathlib, sys, time
from gpt2lab.training.run import RunFolder
with RunFolder(pathlib.Path({str(run.path)!r})).locked():
    print("locked", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(UserError, match="another process is training in this folder"), run.locked():
            pass
    finally:
        holder.kill()
        holder.communicate()
    with run.locked():
        pass


def test_leftovers_are_removed_by_whoever_holds_the_run(run):
    checkpoints = run.path / "checkpoints"
    (checkpoints / ".tmp-1-step-00000002").mkdir(parents=True)
    (checkpoints / ".tmp-1-step-00000002" / "half").touch()
    (run.path / ".tmp-1-data").mkdir()
    (run.path / ".tmp-1-metrics.jsonl").touch()
    run.checkpoint(4).mkdir()
    with run.locked():
        assert [path.name for path in checkpoints.iterdir()] == [run.checkpoint(4).name]
        assert {path.name for path in run.path.iterdir()} == {".lock", "recipe.toml", "checkpoints"}
