"""Which link is next: each site is asked one question after another with pauses between, all at once."""

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Site(Generic[T]):
    delay_s: float
    jobs: deque[T] = field(default_factory=deque)
    next_at: float = 0.0  # when it may be asked again
    active: int = 0  # questions it has not answered yet
    in_heap: bool = False


class Frontier(Generic[T]):
    """Jobs of many sites, given out so that none is asked too often.

    Args:
        delay_s: between the end of one question to a site and the start of the next.
        per_site: questions to one site at the same time.

    Attributes:
        waiting: how many jobs have not been given out.
    """

    def __init__(self, delay_s: float, per_site: int = 1) -> None:
        self.waiting = 0
        self._delay_s = delay_s
        self._per_site = per_site
        self._sites: dict[str, _Site[T]] = {}
        self._heap: list[tuple[float, int, str]] = []  # sites that have a job and room for it, by `next_at`
        self._entries = 0
        self._forget_above = 10_000

    def add(self, site: str, job: T, *, first: bool = False) -> None:
        """One more job for `site`, after its others or before them."""
        entry = self._sites.setdefault(site, _Site(self._delay_s))
        (entry.jobs.appendleft if first else entry.jobs.append)(job)
        self.waiting += 1
        self._schedule(site, entry)

    def take(self, now: float) -> tuple[str, T] | float | None:
        """A site and its job, whose turn it is now; or when there will be one; or None, if not yet known."""
        while self._heap:
            at, _, site = self._heap[0]
            entry = self._sites[site]
            if entry.next_at > at:  # a pause was asked for since
                heapq.heappop(self._heap)
                entry.in_heap = False
                self._schedule(site, entry)
                continue
            if at > now:
                return at
            heapq.heappop(self._heap)
            entry.in_heap = False
            entry.active += 1
            entry.next_at = now + entry.delay_s
            self.waiting -= 1
            job = entry.jobs.popleft()
            self._schedule(site, entry)
            return site, job
        return None

    def release(self, site: str, now: float) -> None:
        """A job of `site` is finished."""
        entry = self._sites[site]
        entry.active -= 1
        entry.next_at = max(entry.next_at, now + entry.delay_s)
        self._schedule(site, entry)
        if len(self._sites) > self._forget_above:
            self._forget_idle(now)

    def slow_down(self, site: str, delay_s: float) -> None:
        """From now on leave `site` at least this delay; to be said while it has a job out."""
        self._sites[site].delay_s = max(self._sites[site].delay_s, delay_s)

    def pause(self, site: str, until: float) -> None:
        """Ask `site` nothing before `until`."""
        entry = self._sites.setdefault(site, _Site(self._delay_s))
        entry.next_at = max(entry.next_at, until)

    def _schedule(self, site: str, entry: _Site[T]) -> None:
        if entry.jobs and entry.active < self._per_site and not entry.in_heap:
            self._entries += 1  # of two sites whose turn it is at the same time, the one that came first
            heapq.heappush(self._heap, (entry.next_at, self._entries, site))
            entry.in_heap = True

    def _forget_idle(self, now: float) -> None:
        """Drop the sites of which there is nothing left to know."""
        self._sites = {
            site: entry
            for site, entry in self._sites.items()
            if entry.jobs or entry.active or entry.next_at > now
        }
        self._forget_above = 2 * len(self._sites) + 10_000
