"""Work in several processes, of which some die."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.corpus.workers import DRIVER_BYTES, LEAST_BYTES, Processes, share_memory

HELPERS = """
import os, pathlib, signal, time
from gpt2lab.base.errors import UserError

def square(number):
    return number * number

def die_once(path):
    path = pathlib.Path(path)
    if path.exists():
        return path.name
    path.touch()
    os.kill(os.getpid(), signal.SIGKILL)

def die_over(number):
    if number == 3:
        os._exit(7)
    return number

def refuse(number):
    raise UserError("no", where="here", fix="Stop")

def fail(number):
    raise ZeroDivisionError("what")

def linger(path):
    pathlib.Path(path).write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """A module that worker processes find as this one does."""
    (tmp_path / "work_helpers.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("work_helpers", None)
    import work_helpers

    return work_helpers


@pytest.mark.parametrize("workers", [1, 2])
def test_every_argument_is_worked_on_once_and_workers_serve_again(helpers, workers):
    with Processes(workers) as pool:
        for size in (0, 7, 1):
            assert sorted(pool.map(helpers.square, range(size))) == [(i, i * i) for i in range(size)]


def test_a_worker_that_dies_is_reported_and_its_argument_tried_again(helpers, tmp_path, capfd):
    paths = [str(tmp_path / name) for name in "abc"]
    with Processes(2) as pool:
        assert sorted(pool.map(helpers.die_once, paths)) == [(0, "a"), (1, "b"), (2, "c")]
    reports = [line for line in capfd.readouterr().err.splitlines() if "a worker process died" in line]
    assert len(reports) == 3
    assert all("(signal 9, SIGKILL)" in line and "trying it again" in line for line in reports)


def test_an_argument_over_which_a_worker_dies_twice_is_an_error(helpers):
    with (
        Processes(2) as pool,
        pytest.raises(UserError, match=r"3: a worker process died twice .*exit code 7"),
    ):
        list(pool.map(helpers.die_over, range(5)))


def test_errors_come_through(helpers):
    with Processes(2) as pool, pytest.raises(UserError, match=r"here: no\. Stop\."):
        list(pool.map(helpers.refuse, [1]))
    with Processes(2) as pool, pytest.raises(RuntimeError, match="ZeroDivisionError: what"):
        list(pool.map(helpers.fail, [1]))


def test_workers_do_not_outlive_a_parent_that_is_killed(helpers, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        "if __name__ == '__main__':\n"
        "    import work_helpers\n"
        "    from gpt2lab.corpus.workers import Processes\n"
        "    with Processes(2) as pool:\n"
        "        list(pool.map(work_helpers.linger, sys.argv[1:]))\n"
    )
    notes = [tmp_path / "first", tmp_path / "second"]
    parent = subprocess.Popen([sys.executable, str(script), *map(str, notes)])
    while not all(note.exists() and note.read_text() for note in notes):
        assert parent.poll() is None
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    for note in notes:
        while _is_alive(int(note.read_text())):
            time.sleep(0.02)


def _is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:  # ended, but not yet fetched by whoever inherited it
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_memory_is_shared_among_as_many_workers_as_it_serves():
    assert share_memory(4, DRIVER_BYTES + 8 * LEAST_BYTES) == (4, 2 * LEAST_BYTES)
    assert share_memory(4, DRIVER_BYTES + 2 * LEAST_BYTES + 1)[0] == 2
    assert share_memory(4, DRIVER_BYTES + LEAST_BYTES) == (1, LEAST_BYTES)
    with pytest.raises(UserError, match="too little for one worker"):
        share_memory(4, DRIVER_BYTES + LEAST_BYTES - 1)
