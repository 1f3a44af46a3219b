from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.corpus.frontier import Frontier


@given(
    jobs=st.lists(st.sampled_from("abc"), max_size=30),
    delay=st.floats(0, 5),
    per_site=st.integers(1, 3),
    durations=st.lists(st.floats(0, 20), min_size=1, max_size=9),
)
def test_every_job_once_and_no_site_too_often(
    jobs: list[str], delay: float, per_site: int, durations: list[float]
) -> None:
    """A made-up clock; jobs take the times of `durations` in turn."""
    frontier: Frontier[int] = Frontier(delay, per_site)
    for number, site in enumerate(jobs):
        frontier.add(site, number)
    now, running, started = 0.0, [], []
    while frontier.waiting or running:
        turn = frontier.take(now)
        if isinstance(turn, tuple):
            site, number = turn
            assert jobs[number] == site
            started.append((now, site, number))
            running.append((now + durations[number % len(durations)], site))
            assert max(Counter(site for _, site in running).values()) <= per_site
            continue
        ends = min(running, default=None)
        if turn is not None and (ends is None or turn <= ends[0]):
            assert turn > now
            now = turn
        else:
            assert ends is not None  # or it would wait forever
            running.remove(ends)
            now = max(now, ends[0])
            frontier.release(ends[1], now)
    assert sorted(number for _, _, number in started) == list(range(len(jobs)))
    for site in "abc":
        times = [when for when, other, _ in started if other == site]
        assert all(later - earlier >= delay - 1e-6 for earlier, later in zip(times, times[1:], strict=False))
        numbers = [number for _, other, number in started if other == site]
        assert numbers == sorted(numbers)


def test_pauses_are_kept_and_urgent_jobs_come_first() -> None:
    frontier: Frontier[str] = Frontier(1.0)
    frontier.add("a", "first")
    frontier.add("b", "other")
    assert frontier.take(0.0) == ("a", "first")
    frontier.add("a", "second")
    frontier.add("a", "first again", first=True)
    frontier.pause("a", 10.0)
    frontier.pause("b", 5.0)
    assert frontier.take(0.0) == 5.0
    assert frontier.take(5.0) == ("b", "other")
    assert frontier.take(5.0) is None
    frontier.release("a", 6.0)
    assert frontier.take(6.0) == 10.0
    assert frontier.take(10.0) == ("a", "first again")
    frontier.slow_down("a", 30.0)
    frontier.release("a", 12.0)
    assert frontier.take(12.0) == 42.0


def test_sites_that_are_done_are_forgotten() -> None:
    frontier: Frontier[int] = Frontier(1.0)
    for number in range(50_000):
        frontier.add(str(number), number)
        turn = frontier.take(float(number))
        assert turn == (str(number), number)
        frontier.release(str(number), float(number))
    assert len(frontier._sites) < 25_000
    with pytest.raises(KeyError):
        frontier.release("0", 0.0)
