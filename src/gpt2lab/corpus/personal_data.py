"""Personal data that can be told by its shape: e-mail addresses, public IP addresses, telephone numbers.

Each is replaced by one that is reserved for examples, so that a sentence stays a sentence:
``name@example.com`` (RFC 2606), ``192.0.2.1`` (RFC 5737), ``2001:db8::1`` (RFC 3849), ``555-0100`` (no one's
number in North America). Names and postal addresses have no shape; nothing here finds them. Some version
numbers look like IP addresses, some catalogue numbers like telephone numbers.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable

_EMAIL = re.compile(
    r"(?<![\w.%+-])[\w.%+-]{1,64}+(?:@| ?[(\[]at[)\]] ?)(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])"
)
_IP = re.compile(
    r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)|(?=[\dA-Fa-f:]*:[\dA-Fa-f]*:)[\dA-Fa-f:]{4,39}+(?![\w:]))"
)
_PHONE = re.compile(
    r"(?<![\w.,/+-])(?:"
    r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}"  # +44 20 7946 0958
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[ .-]\d{4}"  # (212) 555-0100
    r"|0\d{2,4} \d{3,4} \d{3,4}"  # 020 7946 0958
    r")(?![\w/]|[.,-]\d)"
)

# Every digit as 0 (and every hexadecimal one, for IP), every separator of telephone numbers as a blank: then
# a search for three or four characters tells most texts from those that are worth a slow look.
_IP_SHAPE = bytes(ord("0") if chr(code) in "0123456789abcdefABCDEF" else code for code in range(256))
_PHONE_SHAPE = bytes(
    ord("0") if chr(code).isdecimal() else ord(" ") if chr(code) in ".-" else code for code in range(256)
)


def mask_personal_data(text: str) -> tuple[str, Counter[str]]:
    """`text` with personal data replaced, and how often each kind was: ``email``, ``ip``, ``phone``."""
    counts: Counter[str] = Counter()

    def counted(kind: str, replacement: Callable[[str], str]) -> Callable[[re.Match[str]], str]:
        def replace_match(match: re.Match[str]) -> str:
            new = replacement(match[0])
            counts[kind] += new != match[0]
            return new

        return replace_match

    if "@" in text or "at)" in text or "at]" in text:
        text = _EMAIL.sub(counted("email", lambda _: "name@example.com"), text)
    shape = text.encode("ascii", "replace").translate(_IP_SHAPE)
    if b"0.0" in shape or b"0:0" in shape or b"::" in shape:
        text = _IP.sub(counted("ip", _without_address), text)
    shape = text.encode("ascii", "replace").translate(_PHONE_SHAPE)
    if b"000 000" in shape or b") 000" in shape or b")000" in shape or b"+0" in shape:
        text = _PHONE.sub(counted("phone", lambda _: "555-0100"), text)
    return text, +counts


def _without_address(found: str) -> str:
    """A reserved address for a public one; private ones, which are everyone's, and what is none stay."""
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return found
    if not address.is_global:
        return found
    return "192.0.2.1" if address.version == 4 else "2001:db8::1"
