"""What processes agree on; two real ones run in `test_parallel.py`."""

import pytest
import torch

from gpt2lab.base.errors import UserError, speaks
from gpt2lab.training import world as room
from gpt2lab.training.world import World, joined, restarted

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.fixture
def torchrun_says(monkeypatch):
    """Put variables into the environment as torchrun does; None leaves one out."""

    def arrange(**changes):
        for name, value in (TORCHRUN | changes).items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    return arrange


def test_a_process_alone_does_everything_itself():
    world = World()
    assert world.is_first
    assert world.on_first(lambda: 3) == world.first_then_all(lambda: 3) == 3
    assert (world.any(True), world.any(False)) == (True, False)
    assert world.total(1.5, 2) == (1.5, 2)
    assert world.device("cpu") == torch.device("cpu")
    with joined() as found:
        assert found == world


def test_a_world_of_one_needs_nothing_from_torchrun(torchrun_says):
    torchrun_says(WORLD_SIZE="1", RANK="0", MASTER_PORT=None)
    with joined() as world:
        assert world.size == 1
    assert speaks()


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_half_an_environment_is_refused(torchrun_says, missing):
    torchrun_says(**{missing: None})
    with pytest.raises(UserError, match=f"WORLD_SIZE is '2' and {missing} is ''.*torchrun"), joined():
        pass


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
def test_numbers_that_are_none_are_refused(torchrun_says, name):
    torchrun_says(**{name: "two"})
    with pytest.raises(UserError, match="'two'.*torchrun"), joined():
        pass


def test_the_first_process_speaks_and_the_others_do_not(torchrun_says):
    assert speaks()
    torchrun_says()
    assert not speaks()
    torchrun_says(RANK="0")
    assert speaks()
    torchrun_says(RANK="3", WORLD_SIZE=None)  # left over from something else
    assert speaks()


def test_a_process_started_anew_knows_it(monkeypatch):
    assert not restarted()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert not restarted()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert restarted()


@pytest.mark.parametrize(("gpus", "local"), [(1, 1), (4, 4)])
def test_more_processes_than_gpus_is_a_mistake(torchrun_says, monkeypatch, gpus, local):
    torchrun_says(LOCAL_RANK=str(local))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    world = World(rank=local, size=8)
    with pytest.raises(UserError, match=f"has {gpus} NVIDIA GPUs and was given more.*Start {gpus} processes"):
        world.device("auto")
    assert world.device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert world.device("auto") == torch.device("cuda", 0)


@pytest.fixture
def failing(torchrun_says, monkeypatch):
    """Fail inside `joined` as process `rank`, after `earlier` others have failed; returns what comes out."""

    def fail(error, rank, earlier=0):
        failures = [earlier]

        class Store:
            def add(self, key, amount):
                failures[0] += amount
                return failures[0]

        torchrun_says(RANK=str(rank))
        monkeypatch.setattr(room, "_store", lambda rank, size: Store())
        monkeypatch.setattr(room, "_join", lambda rank, size, store: World(rank, size))
        monkeypatch.setattr(room, "_TIME_TO_SPEAK_S", 0.0)
        with pytest.raises((UserError, SystemExit, RuntimeError)) as caught, joined():
            raise error
        return caught.value

    return fail


GLOO = "[/x/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242.\nmore"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UserError("it is wrong", fix="Mend it"), "it is wrong. Mend it."),
        (RuntimeError(GLOO), "another process of this run was lost (Connection closed by peer"),
    ],
)
def test_of_several_processes_that_fail_the_earliest_says_why(failing, capsys, error, text):
    said = failing(error, rank=0)
    assert isinstance(said, UserError)
    assert str(said).startswith(text)
    assert capsys.readouterr().err == ""  # the command line will print it
    said = failing(error, rank=1)
    assert (type(said), said.code) == (SystemExit, 2)
    assert capsys.readouterr().err.startswith(f"gpt2lab: error: process 1: {text}")
    for rank in (0, 1):
        said = failing(error, rank, earlier=1)
        assert (type(said), said.code) == (SystemExit, 2)
        assert capsys.readouterr().err == ""


def test_a_bug_is_not_taken_for_a_lost_process(failing):
    assert str(failing(RuntimeError("a bug"), rank=1)) == "a bug"


def test_processes_that_do_not_find_each_other_are_told_where_they_looked(torchrun_says, monkeypatch, capsys):
    def no_store(rank, size):
        raise torch.distributed.DistNetworkError("The client socket has timed out")

    monkeypatch.setattr(room, "_store", no_store)
    text = (
        "localhost:1: the 2 processes of this run did not find each other (The client socket has timed out)"
    )
    torchrun_says(RANK="0")
    with pytest.raises(UserError) as caught, joined():
        pass
    assert str(caught.value).startswith(text)
    torchrun_says(RANK="1")
    with pytest.raises(SystemExit, match="2"), joined():
        pass
    assert capsys.readouterr().err.startswith(f"gpt2lab: error: process 1: {text}")
