"""robots.txt: what a site lets robots ask for, and how often (RFC 9309), read by protego."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gpt2lab.base.extras import import_extra

MAX_ROBOTS_BYTES = 500 * 1024
"""What RFC 9309 has every robot read; the rest of a longer file is not looked at"""

_KEPT_BYTES = 50_000_000  # of robots.txt, of the sites asked last;
_BYTES_OF_A_SITE = 4_000  # that has none
_MOST_FAILURES = 100_000


@dataclass(frozen=True)
class RobotsAnswer:
    """What came back when a site was asked for its robots.txt.

    Attributes:
        status: the last one, after redirects; 0 if there was no answer.
        text: empty unless the status is 200.
        reason: why there was no answer.
        detail: more for people.
        temporary: whether it is worth asking again.
    """

    status: int
    text: str = ""
    reason: str = ""
    detail: str = ""
    temporary: bool = False


class Rules:
    """What one site says.

    Args:
        answer: to the question for its robots.txt.
        robot: our name, as sites call us.
    """

    def __init__(self, answer: RobotsAnswer, robot: str) -> None:
        self.answer = answer
        self._robot = robot
        self._rules: Any = None
        if answer.status == 200:
            self._rules = import_extra("protego", "corpus").Protego.parse(answer.text)

    @property
    def delay_s(self) -> float:
        """Seconds that the site wants between two questions; 0 if it says nothing."""
        return float((self._rules and self._rules.crawl_delay(self._robot)) or 0.0)

    def refusal(self, url: str) -> tuple[str, str] | None:
        """Why an address may not be asked for, as reason and detail; None if it may.

        A site without the file (a status in the 400s) allows everything; one that fails to answer (500s, 429,
        no connection) allows nothing (RFC 9309, section 2.3.1).
        """
        answer = self.answer
        if self._rules is not None:
            return None if self._rules.can_fetch(url, self._robot) else ("robots_forbid", "")
        if answer.reason:
            return answer.reason, f"robots.txt: {answer.detail}".rstrip(": ")
        if answer.status >= 500 or answer.status == 429:
            return "robots_unreachable", str(answer.status)
        return None


class Robots:
    """The rules of many sites, each asked once.

    Args:
        ask: asks a site, given as ``"https://example.com"``, for its robots.txt. Does not raise.
        robot: our name.
        retries: how often a site that fails for now is asked again.
    """

    def __init__(self, ask: Callable[[str], Awaitable[RobotsAnswer]], robot: str, retries: int) -> None:
        self._ask = ask
        self._retries = retries
        self._failures: dict[str, int] = {}
        self._robot = robot
        self._asked: OrderedDict[str, asyncio.Task[Rules]] = OrderedDict()
        self._bytes = 0

    async def rules(self, origin: str) -> Rules:
        """The rules of one site."""
        task = self._asked.get(origin)
        if task is None:
            task = self._asked[origin] = asyncio.create_task(self._fetch(origin))
        self._asked.move_to_end(origin)
        return await asyncio.shield(task)  # others may wait for it too

    def ask_again(self, origin: str) -> bool:
        """After a failure: whether the next to want the rules of this site will ask for them anew."""
        task = self._asked.get(origin)
        if task is None or not task.done():  # someone else is already at it
            return True
        if len(self._failures) > _MOST_FAILURES:
            self._failures.clear()
        self._failures[origin] = self._failures.get(origin, 0) + 1
        if not task.result().answer.temporary or self._failures[origin] > self._retries:
            return False
        self._forget(origin)
        return True

    def _forget(self, origin: str) -> None:
        self._bytes -= _BYTES_OF_A_SITE + len(self._asked.pop(origin).result().answer.text)

    async def _fetch(self, origin: str) -> Rules:
        answer = await self._ask(origin)
        self._bytes += _BYTES_OF_A_SITE + len(answer.text)
        while self._bytes > _KEPT_BYTES and len(self._asked) > 1:
            oldest = next(iter(self._asked))
            if not self._asked[oldest].done():
                break
            self._forget(oldest)
        return Rules(answer, self._robot)
