"""From tokens to the text that may be shown: whole characters only, and nothing of a stop string."""

from collections.abc import Sequence

from gpt2lab.tokenizer import Tokenizer


class Transcript:
    """The text of one completion as its tokens arrive.

    The concatenation of all that `push` and `finish` return is the completion's text. It ends just before
    the stop string that is completed first (the longest of those completed by the same character), wherever
    token boundaries fall.

    Args:
        tokenizer: turns tokens into text.
        prompt_tokens: what the completion continues. Says nothing itself, but in vocabularies of whole words
            (GPT-1's) decides whether a space comes first.
        stop: the stop strings.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_tokens: Sequence[int], stop: Sequence[str]) -> None:
        self.stopped = False
        self._decoder = tokenizer.stream_decoder()
        for token in prompt_tokens:
            self._decoder.push(token)
        self._stop = stop
        self._pieces: list[str] = []
        self._held = ""  # could be the beginning of a stop string

    @property
    def text(self) -> str:
        """All that was returned so far."""
        return "".join(self._pieces)

    def push(self, token: int) -> str:
        """Add a token; return the text that is now certain, and set `stopped` at a stop string."""
        return self._add(self._decoder.push(token), last=False)

    def finish(self) -> str:
        """Return what was held back; half a character becomes U+FFFD, as in decoding all tokens at once."""
        return self._add(self._decoder.flush(), last=True)

    def _add(self, new: str, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        ends = [(text.index(stop) + len(stop), -len(stop)) for stop in self._stop if stop in text]
        if ends:
            self.stopped = True
            end, minus_length = min(ends)
            n_certain = end + minus_length
        else:
            n_certain = len(text) - (0 if last else self._n_ambiguous(text))
        self._held = text[n_certain:]
        self._pieces.append(text[:n_certain])
        return text[:n_certain]

    def _n_ambiguous(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string begins with."""
        for n in range(min(len(text), max(map(len, self._stop), default=1) - 1), 0, -1):
            if any(stop.startswith(text[-n:]) for stop in self._stop):
                return n
        return 0
