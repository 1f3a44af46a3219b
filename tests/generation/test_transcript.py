from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2lab.generation.transcript import Transcript

STOPS = [
    "\n\n",
    "END",
    "th",
    "the",
    "e s",
    "€",
    "é\n",
    "stop sign",
    "aa",
    "aab",
    "\ufffd",
    "ab",
    "b",
    "N",
    "ND",
    "t",
    "op",
    "ign",
]


def cut_at_first_stop(text, stops):
    """The definition: read character by character; the first to complete a stop string ends the text."""
    for end in range(len(text) + 1):
        lengths = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if lengths:
            return text[: end - max(lengths)], True
    return text, False


def run(tokenizer, tokens, stops, prompt_tokens=()):
    transcript = Transcript(tokenizer, prompt_tokens, stops)
    pieces = []
    for token in tokens:
        pieces.append(transcript.push(token))
        if transcript.stopped:
            break
    pieces.append(transcript.finish())
    assert "".join(pieces) == transcript.text
    return pieces, transcript


def byte_tokens(tokenizer, text):
    """Every byte in a token of its own: characters in as many tokens as they can be."""
    return [tokenizer.encode_bytes(bytes([byte]))[0] for byte in text.encode()]


texts = st.lists(
    st.sampled_from(["a", "b", "the ", "E", "END", "\n", "€", "é", "stop ", "sig", "sign", "😀"])
)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_text_ends_before_the_first_stop_string_wherever_tokens_are_cut(tokenizer, data):
    stops = tuple(data.draw(st.lists(st.sampled_from(STOPS), max_size=4)))
    if data.draw(st.booleans()):
        tokens = tokenizer.encode("".join(data.draw(texts)))
    else:  # anything at all: broken characters, too
        tokens = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 2), max_size=40))
    text, stopped = cut_at_first_stop(tokenizer.decode(tokens), stops)
    _, transcript = run(tokenizer, tokens, stops)
    assert (transcript.text, transcript.stopped) == (text, stopped)


@given(texts, st.lists(st.sampled_from(STOPS[:5]), max_size=2))
@settings(max_examples=200, deadline=None)
def test_no_piece_shows_half_a_character(tokenizer, parts, stops):
    text = "".join(parts)
    pieces, _ = run(tokenizer, byte_tokens(tokenizer, text), tuple(stops))
    assert not any("\ufffd" in piece for piece in pieces)


def test_text_is_not_held_back_longer_than_needed(tokenizer):
    transcript = Transcript(tokenizer, (), ("stop", "top hat"))
    shown = [transcript.push(token) for token in byte_tokens(tokenizer, "a sto top stop")]
    assert shown == ["a", " ", "", "", "", "sto ", "", "", "", "", "top ", "", "", ""]
    assert transcript.stopped
    assert transcript.text == "a sto top "


def test_what_was_held_back_is_shown_at_the_end(tokenizer):
    transcript = Transcript(tokenizer, (), ("the end",))
    assert [transcript.push(t) for t in tokenizer.encode("the ")] == ["", ""]
    assert transcript.finish() == "the "


def test_half_a_character_at_the_end_is_shown_as_in_decoding_all(tokenizer):
    tokens = byte_tokens(tokenizer, "a€")[:-1]
    pieces, transcript = run(tokenizer, tokens, ())
    assert transcript.text == tokenizer.decode(tokens) == "a\ufffd"
    assert pieces[:-1] == ["a", "", ""]


def test_the_prompt_says_nothing_and_completes_no_stop_string(tokenizer):
    pieces, transcript = run(tokenizer, tokenizer.encode("D of"), ("END",), tokenizer.encode("the EN"))
    assert "".join(pieces) == "D of"
    assert not transcript.stopped
