"""The 256 characters in which GPT-2's vocabulary files write the 256 bytes.

A token of GPT-2 is a string of bytes, and JSON holds only text, so OpenAI gave every byte a visible
character: the printable ones of Latin-1 stand for themselves, the other 68 follow from U+0100 on. A space
is ``Ġ``, a line feed ``Ċ`` (`bytes_to_unicode` of openai/gpt-2, src/encoder.py).
"""

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]

CHARACTERS = [chr(byte) for byte in _PRINTABLE] + [chr(256 + i) for i in range(len(_OTHERS))]
"""All 256, in the order of GPT-2's ids 0 to 255."""

_BYTE_OF = dict(zip(CHARACTERS, _PRINTABLE + _OTHERS, strict=True))
_CHARACTER_OF = {byte: character for character, byte in _BYTE_OF.items()}


def to_bytes(token: str) -> bytes:
    """The bytes that a token of a vocabulary file stands for: ``"Ġthe"`` is ``b" the"``."""
    return bytes([_BYTE_OF[character] for character in token])


def from_bytes(data: bytes) -> str:
    """How a vocabulary file writes `data`: the inverse of `to_bytes`."""
    return "".join([_CHARACTER_OF[byte] for byte in data])
