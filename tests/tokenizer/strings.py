"""Strings that are hard to cut: what hypothesis and the long fuzz draw from."""

import random
from collections.abc import Iterator

from hypothesis import strategies as st

_PIECES = (
    *(" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u1680"),
    *("\u2003", "\u2028", "\u202f", "\u3000", "\u180e", "\u200b", "\ufeff", "\x00", "\x7f", "\xad"),
    *("'", "'s", "'S", "'t", "'re", "'ve", "'m", "'ll", "'d", "''", "’s", " 'll", "' s", "don't", "I'd've"),
    *(
        "a",
        "the",
        " the",
        "Hello",
        "WORLD",
        "ß",
        "ſ",
        "İ",
        "ǅ",
        "é",
        "e\u0301",
        "\u0345",
        "ñandú",
        "Ω",
        "привет",
    ),
    *("日本", "한국", "العربية", "हिन्दी", "ไทย", "𝔘", "𐍈", "\U00010940", "\U0001e900", "\u0cdc", "\ua7cb"),
    *("0", "123", " 42", "٣", "½", "²", "Ⅷ", "௧", "𝟘", "㊿", "1,000.50"),
    *(
        ".",
        "...",
        "!?",
        "--",
        "—",
        "_",
        "$",
        "€",
        "©",
        "=" * 9,
        "<|endoftext|>",
        "<|",
        "|>",
        "</w>",
        "Ġ",
        "Ċ",
    ),
    *(
        "👩‍👩‍👧",
        "🇫🇷",
        "🤦🏽‍♂️",
        "\ufe0f",
        "\u200d",
        "🫨",
        "\ufffd",
        "\ufffe",
        "\ue000",
        "\U0010ffff",
        "\U000e0001",
    ),
)


def hard_text(max_pieces: int = 30) -> st.SearchStrategy[str]:
    """Any characters at all (surrogates apart), mixed with pieces that the pattern treats specially."""
    any_character = st.characters(exclude_categories=["Cs"])
    piece = st.one_of(st.sampled_from(_PIECES), any_character, st.text(any_character, max_size=6))
    return st.lists(piece, max_size=max_pieces).map("".join)


def random_strings(n: int, seed: int) -> Iterator[str]:
    """`n` strings of up to 24 pieces; faster than hypothesis, for tests by the million."""
    draw = random.Random(seed)
    for _ in range(n):
        parts = []
        for _ in range(draw.randrange(1, 25)):
            kind = draw.random()
            if kind < 0.6:
                parts.append(draw.choice(_PIECES))
            elif kind < 0.75:
                parts.append(chr(draw.randrange(32, 127)))
            elif kind < 0.9:
                parts.append(chr(draw.randrange(0xD800)))
            else:
                parts.append(chr(draw.randrange(0xE000, 0x110000)))
        yield "".join(parts)
