"""Which network addresses may be asked: those of the public internet, and no others.

A list of links is hostile input: it may name the machine itself, its network's printer or a cloud's metadata
service. A name in a link says nothing, for whoever owns the name decides what it stands for, differently
each time it is looked up. So what counts is the address to which a connection is really made, and that is
checked where the socket is made (`checked_socket`), on first requests and after redirects alike.
"""

import ipaddress
import socket
from typing import Any

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Networks through which an IPv6 address reaches an IPv4 one, and the bit at which that one starts.
_IPV4_WITHIN = [
    (ipaddress.IPv6Network("::ffff:0:0/96"), 96),  # mapped: RFC 4291
    (ipaddress.IPv6Network("::/96"), 96),  # compatible: RFC 4291, abolished
    (ipaddress.IPv6Network("64:ff9b::/96"), 96),  # translated: RFC 6052
    (ipaddress.IPv6Network("64:ff9b:1::/48"), 96),  # translated locally: RFC 8215
    (ipaddress.IPv6Network("2002::/16"), 16),  # 6to4: RFC 3056
]


class PrivateAddressError(OSError):
    """A connection was about to be made to an address that is not public."""


def is_literal_address(host: str) -> bool:
    """Whether a host is written as an address instead of a name."""
    if not (host[-1:].isdigit() or ":" in host):  # most are names, and to try is slow
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether an address belongs to some machine on the public internet.

    Not so: loopback, private, link-local (the metadata services of clouds), shared, multicast, reserved,
    unspecified, whatever is for documentation, and every IPv6 spelling of such an IPv4 address.
    """
    try:
        parsed: _Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        for network, start in _IPV4_WITHIN:
            if parsed in network:
                return is_public(str(ipaddress.IPv4Address(int(parsed) >> (96 - start) & 0xFFFFFFFF)))
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified)


def checked_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for one entry of `getaddrinfo`; aiohttp's `socket_factory`.

    Raises:
        PrivateAddressError: its address is not public.
    """
    family, kind, protocol, _, where = address
    if not is_public(str(where[0])):
        raise PrivateAddressError(f"{where[0]} is not a public address")
    return socket.socket(family, kind, protocol)
