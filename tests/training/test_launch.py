"""Starting and resuming: what is kept, what is freed, what is said."""

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.training.launch import start
from gpt2lab.training.run import RunFolder


def test_a_failed_start_frees_its_folder(tmp_path, make_recipe):
    with pytest.raises(UserError, match="no-such-thing"):
        start(make_recipe(data__path=str(tmp_path / "no-such-thing")), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_run_that_another_process_is_making_is_left_alone(tmp_path, make_recipe):
    run = RunFolder.create(tmp_path / "run", make_recipe())  # no run.json yet: it tokenises or compiles
    with run.locked(), pytest.raises(UserError, match="another process is training in this folder"):
        start(make_recipe(), run.path, resume=True)
    assert RunFolder.is_one(run.path)


def test_what_a_killed_start_has_made_survives_a_mistake(tmp_path, make_recipe):
    run = RunFolder.create(tmp_path / "run", make_recipe(expected_curve=str(tmp_path / "gone.toml")))
    kept = run.path / "checkpoints"
    kept.mkdir()
    with pytest.raises(UserError, match="gone.toml"):
        start(make_recipe(), run.path, resume=True)
    assert kept.exists()


def test_options_that_a_started_run_does_not_take_are_named(tmp_path, make_recipe, capsys):
    start(make_recipe(), tmp_path / "run")
    assert "keeps its recipe" not in capsys.readouterr().err
    start(make_recipe(), tmp_path / "run", resume=True)
    assert "keeps its recipe" not in capsys.readouterr().err
    result = start(make_recipe(schedule__steps=9, summary="other"), tmp_path / "run", resume=True)
    assert result.step == 6
    err = capsys.readouterr().err
    assert "a started run keeps its recipe: schedule.steps stays 6, not 9" in err
    assert "summary" not in err


@pytest.mark.parametrize(("launch", "goes_on"), [("this", True), ("an older one", False)])
def test_torchruns_second_try_goes_on_only_with_its_own_run(
    tmp_path, make_recipe, monkeypatch, launch, goes_on
):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", launch)
    start(make_recipe(), tmp_path / "run")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    if goes_on:
        assert start(make_recipe(), tmp_path / "run").finished
        return
    with pytest.raises(UserError, match="already started in this folder"):
        start(make_recipe(), tmp_path / "run")
    assert RunFolder(tmp_path / "run").checkpoint(6).exists()
