"""Fetching: links in, WARC files out, politely and safely, resumable at any moment.

Politely: robots.txt is obeyed, a site is asked one question at a time with a pause after it, and one that
says it is busy is left alone for as long as it asks. Safely: a list of links is hostile input, so nothing in
the private network is ever asked, every redirect is a new link that passes all checks, and no server can
hold a place longer than the deadline or send more than the limit. Every link ends as a page or under a
reason, in the same files, so a run that was stopped goes on with the links that have no record yet.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import gpt2lab
from gpt2lab.base.errors import UserError
from gpt2lab.base.extras import import_extra
from gpt2lab.base.progress import Progress, track
from gpt2lab.corpus.asking import Answer, Limits, NoAnswer, ask, open_session
from gpt2lab.corpus.frontier import Frontier
from gpt2lab.corpus.http_message import TEXT_TYPES
from gpt2lab.corpus.links import DroppedLink, Link, check_link
from gpt2lab.corpus.outage import Outage
from gpt2lab.corpus.page_store import PageStore
from gpt2lab.corpus.pages import MAX_PAGE_BYTES
from gpt2lab.corpus.robots import MAX_ROBOTS_BYTES, Robots, RobotsAnswer
from gpt2lab.corpus.unique_links import UniqueLinks

ROBOT = "gpt2lab"
"""Our name, as robots.txt calls us"""

_WINDOW = 20_000  # links that wait in memory; their sites are mixed, so this many keep every place busy
_SIGNS_OF_LIFE = ("status", "not_text", "too_large", "too_slow", "broken_off", "bad_packing", "bad_answer")
_LOOKUP_THREADS = 64  # a name server may take half a minute for a bad name; the others must not wait for it


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch.

    Attributes:
        contact: an address or a mailbox where site owners find who this is; goes into the User-Agent.
        delay_s: seconds between two questions to one site, unless its robots.txt asks for more.
        per_site: questions to one site at a time.
        concurrency: questions to all sites at a time.
        max_bytes: of one page, unpacked; a larger one is dropped, not cut.
        deadline_s: for one question, from looking up the name to the last byte.
        min_bytes_per_s: a page that comes slower, after the first seconds, is given up.
        max_redirects: before a link is given up.
        retries: of a question that failed for now.
        backoff_s: seconds before the first retry; twice as many before each further one.
        longest_wait_s: a site that asks to be left alone for longer is given up.
        allow_private: whether addresses of the own machine and network may be asked. Only for tests and for
            a crawl of one's own intranet: a list of links is hostile input.
    """

    contact: str = ""
    delay_s: float = 1.0
    per_site: int = 1
    concurrency: int = 64
    max_bytes: int = MAX_PAGE_BYTES
    deadline_s: float = 60.0
    min_bytes_per_s: float = 500.0
    max_redirects: int = 5
    retries: int = 2
    backoff_s: float = 5.0
    longest_wait_s: float = 120.0
    allow_private: bool = False

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not least <= value < float("inf"):
                raise UserError(f"{name} is {value}", where="fetch", fix=f"It is at least {least}")

    @property
    def user_agent(self) -> str:
        """How we call ourselves: our name first, then who runs us."""
        contact = " ".join(self.contact.split())
        return f"{ROBOT}/{gpt2lab.__version__}" + (f" (+{contact})" if contact else "")


_LEAST = {
    "delay_s": 0,
    "per_site": 1,
    "concurrency": 1,
    "max_bytes": 1,
    "deadline_s": 0.01,
    "min_bytes_per_s": 0,
    "max_redirects": 0,
    "retries": 0,
    "backoff_s": 0,
    "longest_wait_s": 0,
}


@dataclass
class FetchReport:
    """What became of a list of links.

    Attributes:
        pages: stored in this run.
        page_bytes: of them, unpacked.
        done_before: links that had their record from an earlier run.
        dropped: how many links gave no page, by reason; those of earlier runs are not in it.
        seconds: the run took.
    """

    pages: int = 0
    page_bytes: int = 0
    done_before: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def fetch(
    links: Iterable[Link | DroppedLink], folder: Path, options: FetchOptions | None = None
) -> FetchReport:
    """Fetch each link once and store its page, or the reason why there is none, in `folder`.

    `web_archives.read_archive` reads the files there. A further call with the same links and folder, after a
    stop of any kind, asks only for what has no record yet.

    Args:
        links: may be many and hold duplicates; they are sorted out on the disk in `folder`.
        folder: gets ``pages-00000.warc.gz`` and so on.
        options: how to fetch.

    Raises:
        UserError: another process fetches into `folder`, the disk is full, or there is no network; what was
            stored stays.
    """
    options = options or FetchOptions()
    started = time.monotonic()
    with (
        PageStore(folder, options.user_agent) as store,
        UniqueLinks(track(links, "reading links", unit="links"), folder) as unique,
        Progress(unique.total, "fetching", "links") as progress,
    ):
        crawl = _Crawl(store, options, progress)
        crawl.report.dropped.update(unique.dropped)
        try:
            asyncio.run(crawl.run(iter(unique)))
        except ExceptionGroup as group:
            mistakes = group.subgroup(UserError)
            if mistakes is None:
                raise
            raise mistakes.exceptions[0] from None
    crawl.report.seconds = time.monotonic() - started
    return crawl.report


@dataclass(frozen=True)
class _Job:
    """A question to be asked for the sake of a link."""

    link: str
    url: str  # the link, or where it has led so far
    seen: tuple[str, ...] = ()  # the addresses on the way there
    tries: int = 0


class _Crawl:
    def __init__(self, store: PageStore, options: FetchOptions, progress: Progress) -> None:
        self.report = FetchReport()
        self._store = store
        self._options = options
        self._progress = progress
        self._frontier: Frontier[_Job] = Frontier(options.delay_s, options.per_site)
        self._limits = Limits(options.max_bytes, options.deadline_s, options.min_bytes_per_s)
        self._outage = Outage()
        self._active = 0
        self._changed = asyncio.Event()

    async def run(self, links: Iterator[Link | DroppedLink]) -> None:
        """Give out jobs until there are none left."""
        async with self._session(), asyncio.TaskGroup() as group:
            more = True
            while True:
                if more and self._frontier.waiting < _WINDOW:
                    more = await self._take_links(links)
                if not (more or self._frontier.waiting or self._active):
                    break
                turn: tuple[str, _Job] | float | None = None
                if self._active < self._options.concurrency:
                    turn = self._frontier.take(time.monotonic())
                if isinstance(turn, tuple):
                    self._active += 1
                    group.create_task(self._do(*turn))
                elif not more or self._frontier.waiting >= _WINDOW:
                    await self._wait_until(turn)
        self._drop_all_held()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[None]:
        options = self._options
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_LOOKUP_THREADS, "lookup"))
        session = open_session(options.user_agent, options.concurrency, allow_private=options.allow_private)
        async with session:
            self._http = session
            self._robots = Robots(self._ask_for_robots, ROBOT, options.retries)
            yield

    async def _take_links(self, links: Iterator[Link | DroppedLink]) -> bool:
        """Put some more links into the frontier; False at the end of the list."""
        for _ in range(1000):
            link = next(links, None)
            if link is None:
                return False
            if isinstance(link, DroppedLink):
                self._count_dropped(link)
            elif link.url in self._store:
                self.report.done_before += 1
                self._progress.advance()
            else:
                self._frontier.add(_site_of(link.url), _Job(link.url, link.url))
        await asyncio.sleep(0)  # what is under way goes on even if all of a long list is duplicates
        return True

    async def _wait_until(self, turn: float | None) -> None:
        """Until a job ends, or until a site's turn comes."""
        self._changed.clear()
        timeout = None if turn is None else max(0.0, turn - time.monotonic())
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _do(self, site: str, job: _Job) -> None:
        """One job, to its record or to the next job for its link."""
        try:
            answer = await self._permitted_answer(site, job)
            self._drop_all_held()
            if answer.moved_to is None:
                self._store.add_page(
                    job.link, job.url, answer.status_line, answer.headers, answer.body, answer.address
                )
                self.report.pages += 1
                self.report.page_bytes += len(answer.body)
                self._progress.advance()
            else:
                self._follow(job, answer.moved_to)
        except NoAnswer as problem:
            if problem.reason in _SIGNS_OF_LIFE:
                self._drop_all_held()
            self._retry_or_drop(site, job, problem)
        finally:
            self._active -= 1
            self._frontier.release(site, time.monotonic())
            self._changed.set()

    async def _permitted_answer(self, site: str, job: _Job) -> Answer:
        """What the server says, if its robots.txt lets us ask."""
        rules = await self._robots.rules(site)
        refusal = rules.refusal(job.url)
        if refusal:
            again = rules.answer.temporary and self._robots.ask_again(site)
            raise NoAnswer(*refusal, 0 if again else None)
        if rules.delay_s > self._options.longest_wait_s:
            raise NoAnswer("robots_forbid", f"it wants {rules.delay_s:.0f} s between questions")
        self._frontier.slow_down(site, rules.delay_s)
        return await ask(self._http, job.url, self._limits, TEXT_TYPES)

    def _follow(self, job: _Job, moved_to: str) -> None:
        """A redirect makes a new job, at the site it leads to, if it passes what links have to pass."""
        seen = (*job.seen, job.url)
        target = _redirect_target(job.url, moved_to, self._options.allow_private)
        if isinstance(target, DroppedLink):
            raise NoAnswer(target.reason, f"redirect to {target.url}: {target.detail}".rstrip(": "))
        if target.url in seen:
            raise NoAnswer("redirect_loop", target.url)
        if len(seen) > self._options.max_redirects:
            raise NoAnswer("too_many_redirects", target.url)
        self._frontier.add(_site_of(target.url), replace(job, url=target.url, seen=seen, tries=0), first=True)

    def _retry_or_drop(self, site: str, job: _Job, problem: NoAnswer) -> None:
        if problem.retry_after_s is not None and job.tries < self._options.retries:
            wait = max(problem.retry_after_s, self._options.backoff_s * 2**job.tries)
            if problem.retry_after_s <= self._options.longest_wait_s:
                self._frontier.pause(site, time.monotonic() + wait)
                self._frontier.add(site, replace(job, tries=job.tries + 1), first=True)
                return
        dropped = DroppedLink(job.link, problem.reason, problem.detail)
        if not self._outage.hold(dropped, site):
            self._drop(dropped)
        elif self._outage.is_full:
            self._drop_all_held()

    def _drop_all_held(self) -> None:
        for dropped in self._outage.release():
            self._drop(dropped)

    def _drop(self, dropped: DroppedLink) -> None:
        self._store.add_dropped(dropped)
        self._count_dropped(dropped)

    def _count_dropped(self, link: DroppedLink) -> None:
        self.report.dropped[link.reason] += 1
        self._progress.advance()

    async def _ask_for_robots(self, site: str) -> RobotsAnswer:
        """A site's robots.txt, with redirects followed; what goes wrong is an answer too."""
        limits = replace(self._limits, max_bytes=MAX_ROBOTS_BYTES)
        url = f"{site}/robots.txt"
        for _ in range(self._options.max_redirects + 1):
            try:
                answer = await ask(self._http, url, limits)
            except NoAnswer as problem:
                temporary = problem.retry_after_s is not None
                return RobotsAnswer(0, "", problem.reason, problem.detail, temporary)
            if answer.moved_to is None:
                text = answer.body.decode("utf-8-sig", "replace") if answer.status == 200 else ""
                return RobotsAnswer(
                    answer.status, text, temporary=answer.status >= 500 or answer.status == 429
                )
            target = _redirect_target(url, answer.moved_to, self._options.allow_private)
            if isinstance(target, DroppedLink):
                return RobotsAnswer(0, reason="robots_unreachable", detail=f"redirect: {target.reason}")
            url = target.url
        return RobotsAnswer(0, reason="robots_unreachable", detail="too many redirects")


def _site_of(url: str) -> str:
    """Scheme, host and port: what one robots.txt speaks for."""
    origin: str = import_extra("ada_url", "corpus").URL(url).origin
    return origin


def _redirect_target(url: str, moved_to: str, allow_private: bool) -> Link | DroppedLink:
    try:
        target: str = import_extra("ada_url", "corpus").join_url(url, moved_to)
    except ValueError:
        return DroppedLink(moved_to[:200], "malformed")
    return check_link(target, allow_private=allow_private)
