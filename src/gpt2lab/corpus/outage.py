"""Is it the servers that cannot be reached, or are we off the network? Then no link is to blame for it.

A laptop that loses its network for ten minutes would otherwise note thousands of sites as gone. So links that
failed for want of a connection are held back until some server answers; if none of many sites does, the run
stops and those links are asked again by the next one.
"""

from collections.abc import Iterator

from gpt2lab.base.errors import UserError
from gpt2lab.corpus.links import DroppedLink

_SITES = 100  # in a row; if a third of all sites were gone, chance would do this once in 10^52 tries
_MOST_HELD = 10_000
_CONNECTION = ("unknown_host", "unreachable", "timeout")


class Outage:
    """Links that failed since a server last answered."""

    def __init__(self) -> None:
        self._held: list[DroppedLink] = []
        self._sites: set[str] = set()

    def hold(self, dropped: DroppedLink, site: str) -> bool:
        """Keep a link that failed if it may be for want of a network; False if it is for another reason.

        Raises:
            UserError: it looks as if there is no network.
        """
        if dropped.reason not in _CONNECTION:
            return False
        self._held.append(dropped)
        self._sites.add(site)
        if len(self._sites) >= _SITES:
            raise UserError(
                f"none of the last {len(self._sites)} sites could be reached ({dropped.reason})",
                where=site,
                fix="Check the network and run the same command again; it goes on where it stopped",
            )
        return True

    def release(self) -> Iterator[DroppedLink]:
        """All that were held: a server has answered, or the list is at its end."""
        self._sites.clear()
        held, self._held = self._held, []
        yield from held

    @property
    def is_full(self) -> bool:
        """Whether more links are held than is wise: many of few sites."""
        return len(self._held) > _MOST_HELD
