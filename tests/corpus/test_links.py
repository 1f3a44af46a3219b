import tomllib
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.corpus.addresses import PrivateAddressError, checked_socket, is_public
from gpt2lab.corpus.links import DroppedLink, Link, canonical, check_link

pytest.importorskip("ada_url")

PRIVATE = """127.0.0.1 127.255.255.254 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254
    100.64.0.1 100.100.100.200 0.0.0.0 255.255.255.255 224.0.0.1 239.1.1.1 240.0.0.1 192.0.2.1
    198.51.100.1 203.0.113.1 198.18.0.1 192.0.0.1
    ::1 :: fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 ff02::1 2001:db8::1 100::1
    ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 ::10.0.0.1 64:ff9b::127.0.0.1
    64:ff9b::a9fe:a9fe 64:ff9b:1::10.0.0.1 2002:7f00:1:: 2002:a00:1::1 2001:0:7f00:1:: localhost a.com 1"""
PUBLIC = """8.8.8.8 1.1.1.1 93.184.216.34 2606:4700::1111 2a00:1450:4001::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8
    2002:808:808::1"""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://Example.COM:80/a/../b/./c?b=2&a=1#frag", "http://example.com/b/c?b=2&a=1"),
        ("https://example.com:443", "https://example.com/"),
        (" http://example.com./ \n", "http://example.com/"),
        ("http://bücher.example/ü?q=ü", "http://xn--bcher-kva.example/%C3%BC?q=%C3%BC"),
        ("http://example.com/a b", "http://example.com/a%20b"),
        ("http://example.com/?utm_source=x&id=3&FBCLID=9&utm_medium", "http://example.com/?id=3"),
        ("http://example.com/?utm_source=x", "http://example.com/"),
        ("http://example.com/?a=&b&a=1", "http://example.com/?a=&b&a=1"),
        ("http://example.com\\@evil.com/", "http://example.com/@evil.com/"),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("//example.com/x", None),
        ("example.com", None),
        ("http://", None),
        ("http://exa mple.com/", None),
        ("http://example.com:99999/", None),
        ("http://[::1", None),
        ("", None),
    ],
)
def test_one_spelling(url: str, expected: str | None) -> None:
    assert canonical(url) == expected
    if expected:
        assert canonical(expected) == expected


@given(
    st.text(st.characters(codec="utf-8")), st.sampled_from(["", "http://", "http://a.com/", "http://a.com/?"])
)
def test_any_text_has_a_spelling_that_stays_or_none(text: str, start: str) -> None:
    once = canonical(start + text)
    if once is not None:
        assert canonical(once) == once
    check_link(start + text)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("not a url", "malformed"),
        ("javascript:alert(1)", "not_web"),
        ("ftp://example.com/x", "not_web"),
        ("file:///etc/passwd", "not_web"),
        ("http://example.com/" + "a" * 3000, "too_long"),
        ("http://user:password@example.com/", "credentials"),
        ("http://example.com:25/", "unsafe_port"),
        ("http://example.com:6379/", None),
        ("http://localhost/", "private_address"),
        ("http://printer.local/", "private_address"),
        ("http://metadata.google.internal/", "private_address"),
        ("http://127.0.0.1:8000/", "private_address"),
        ("http://127.1/", "private_address"),
        ("http://0x7f000001/", "private_address"),
        ("http://017700000001/", "private_address"),
        ("http://2130706433/", "private_address"),
        ("http://%31%32%37.0.0.1/", "private_address"),
        ("http://①②⑦.0.0.1/", "private_address"),
        ("http://169.254.169.254/latest/meta-data/", "private_address"),
        ("http://10.1.2.3/", "private_address"),
        ("http://0/", "private_address"),
        ("http://[::1]/", "private_address"),
        ("http://[::ffff:10.0.0.1]/", "private_address"),
        ("http://[fd00:ec2::254]/", "private_address"),
        ("http://8.8.8.8/", None),
        ("http://en.wikipedia.org/wiki/GPT-2", "excluded_site"),
        ("https://wikipedia.org", "excluded_site"),
        ("http://notwikipedia.org/", None),
        ("http://wikipedia.org.example.com/", None),
        ("https://www.reddit.com/r/news", "not_outbound"),
        ("https://i.redd.it/x", "not_outbound"),
        ("https://twitter.com/x/status/1", "not_in_webtext"),
        ("https://m.youtube.com/watch?v=1", "media_site"),
        ("http://example.com/a.JPG?x=1#y", "media_file"),
        ("http://example.com/a.tar.gz", "media_file"),
        ("http://example.com/jpg", None),
        ("http://example.com/a.html", None),
        ("http://example.com/a.jpg/b", None),
        ("http://example.com/v1.pdf/", None),
    ],
)
def test_why_an_address_is_no_link(url: str, reason: str | None) -> None:
    link = check_link(url)
    assert (link.reason if isinstance(link, DroppedLink) else None) == reason


def test_private_addresses_where_they_are_wanted() -> None:
    assert check_link("http://127.0.0.1:81/x", allow_private=True) == Link("http://127.0.0.1:81/x")
    assert isinstance(check_link("http://127.0.0.1/a.jpg", allow_private=True), DroppedLink)


def test_the_lists_name_nothing_twice() -> None:
    table = tomllib.loads(resources.files("gpt2lab.corpus").joinpath("blocked_links.toml").read_text("utf-8"))
    for kind in ("hosts", "endings", "names"):
        entries = [entry for part in table.values() for entry in part.get(kind, [])]
        assert len(entries) == len(set(entries))
        assert all(entry == entry.lower().strip(".") for entry in entries)


@pytest.mark.parametrize("address", ["", *PRIVATE.split()])
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(PrivateAddressError):
        checked_socket((2, 1, 6, "", (address, 80)))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)
    family = 10 if ":" in address else 2
    checked_socket((family, 1, 6, "", (address, 80))).close()
