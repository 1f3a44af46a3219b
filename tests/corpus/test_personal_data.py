import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.corpus.personal_data import mask_personal_data


@pytest.mark.parametrize(
    ("text", "masked", "counts"),
    [
        ("Write to jane.doe+x@mail.example.co.uk.", "Write to name@example.com.", {"email": 1}),
        ("<a_b@c-d.org>, x@y.io", "<name@example.com>, name@example.com", {"email": 2}),
        ("jane (at) example.net", "name@example.com", {"email": 1}),
        ("Meet @jane at 5, or e@f.", "Meet @jane at 5, or e@f.", {}),
        ("from 8.8.8.8, to 10.0.0.1", "from 192.0.2.1, to 10.0.0.1", {"ip": 1}),
        ("at 127.0.0.1:80 or 300.1.1.1", "at 127.0.0.1:80 or 300.1.1.1", {}),
        ("v1.2.3.4 and 1.2.3.4.5", "v1.2.3.4 and 1.2.3.4.5", {}),
        ("[2606:4700::1111] fe80::1 at 12:30:45", "[2001:db8::1] fe80::1 at 12:30:45", {"ip": 1}),
        ("Call +44 20 7946 0958!", "Call 555-0100!", {"phone": 1}),
        ("Call (212) 736-5000 or 212-736-5000.", "Call 555-0100 or 555-0100.", {"phone": 2}),
        ("020 7946 0958", "555-0100", {"phone": 1}),
        ("1,234,567.89 on 2019-02-14, 1939-1945", "1,234,567.89 on 2019-02-14, 1939-1945", {}),
        ("ISBN 978-0-306-40615-7", "ISBN 978-0-306-40615-7", {}),
    ],
)
def test_what_is_masked_and_what_is_not(text: str, masked: str, counts: dict[str, int]) -> None:
    assert mask_personal_data(text) == (masked, counts)


@given(st.text(st.sampled_from("ab1.@:+-() 0")))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once, _ = mask_personal_data(text)
    again, _ = mask_personal_data(once)
    assert mask_personal_data(again)[0] == again
    assert once.count("\n") == text.count("\n")


def test_long_runs_take_no_long_time() -> None:
    for run in (
        "a" * 200_000,
        "1." * 100_000,
        "1:" * 100_000,
        "12 " * 100_000,
        "a@" * 100_000,
        "+1 " * 100_000,
    ):
        mask_personal_data("@ " + run)
