import io
import math
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

import gpt2lab
from gpt2lab.base.errors import UserError
from gpt2lab.cli import generate as command
from gpt2lab.generation.backends import backend_for
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import train_bpe


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(["the end of the story, and the beginning of the next one\n"] * 3, 280)


@pytest.fixture(autouse=True)
def model(monkeypatch, tokenizer):
    """Whatever MODEL is asked for is a tiny random one; standard input is a terminal."""
    config = ModelConfig(vocab_size=tokenizer.vocab_size, context_length=32, n_layer=1, n_head=2, n_embd=16)
    model = GPT(config).initialise(torch.Generator().manual_seed(0))
    monkeypatch.setitem(gpt2lab.__dict__, "load", lambda name: (model, tokenizer))
    set_stdin(monkeypatch, b"", terminal=True)
    return model


def set_stdin(monkeypatch, data, terminal=False):
    stdin = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    stdin.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdin", stdin)


def run(capsys, *arguments, code=0):
    """In float32 on the CPU, where the text is what plain PyTorch says, unless arguments ask for another."""
    assert command.main(["some-model", "--device", "cpu", "--precision", "float32", *arguments]) == code
    return capsys.readouterr()


def expected(model, tokenizer, prompt, **options):
    text = prompt + gpt2lab.generate(model, tokenizer, prompt, **options)
    return text if text.endswith("\n") else text + "\n"


@pytest.mark.parametrize("precision", ["auto", "bf16", "int8", "int4", "int4-fast"])
def test_a_precision_writes_what_its_engine_says(capsys, model, tokenizer, precision):
    engine = backend_for(model, torch.device("cpu"), precision)
    text = expected(engine, tokenizer, "the end", temperature=0, max_new_tokens=12)
    arguments = ("--temperature", "0", "--max-new-tokens", "12", "--precision", precision)
    assert run(capsys, "the end", *arguments).out == text


def test_prints_the_prompt_and_what_the_function_returns(capsys, model, tokenizer):
    out, err = run(capsys, "the end", "--seed", "1", "--max-new-tokens", "20", "--top-k", "9", "--stop", "q")
    assert out == expected(model, tokenizer, "the end", seed=1, max_new_tokens=20, top_k=9, stop="q")
    assert re.fullmatch(r"\[\d+ tokens in \d+\.\d s, [\d.]+ tokens/s; seed 1\]\n", err)


def test_every_way_to_give_a_prompt_gives_the_same(capsys, monkeypatch, tmp_path):
    options = ["--seed", "1", "--max-new-tokens", "20"]
    by_words = run(capsys, "the", "end", *options).out
    assert run(capsys, "the end", *options).out == by_words
    (tmp_path / "prompt.txt").write_bytes(b"the end\n")
    assert run(capsys, "--prompt-file", str(tmp_path / "prompt.txt"), *options).out == by_words
    set_stdin(monkeypatch, b"the end\n")
    assert run(capsys, *options).out == by_words
    set_stdin(monkeypatch, b"the end\n\n")
    assert run(capsys, "--interactive", *options).out == by_words
    set_stdin(monkeypatch, b"the end\nthe end")
    assert run(capsys, "--interactive", *options).out == 2 * by_words


def test_streamed_or_not_the_text_is_the_same(capsys):
    options = ["the", "--seed", "3", "--samples", "3"]
    assert run(capsys, *options).out == run(capsys, *options, "--no-stream").out


def test_the_seed_that_was_drawn_brings_the_text_back(capsys):
    first = run(capsys, "the")
    seed = re.search(r"seed (\d+)", first.err)[1]
    assert run(capsys, "the", "--seed", seed).out == first.out
    assert run(capsys, "the").out != first.out


def test_several_samples_stand_one_after_another(capsys):
    out = run(capsys, "the", "--samples", "3", "--seed", "5", "--max-new-tokens", "9").out
    parts = re.split(r"(?:^|(?<=\n))=== sample \d of 3 ===\n", out)
    alone = [run(capsys, "the", "--seed", str(5 + i), "--max-new-tokens", "9").out for i in range(3)]
    assert parts == ["", *alone]


def test_every_option_of_the_function_is_one_of_the_command(capsys, model, tokenizer):
    words = "--num-beams 3 --samples 2 --no-repeat-ngram-size 2 --early-stopping never --length-penalty 0.5"
    words += " --min-new-tokens 3 --bad-words th --bad-words x --stop-tokens 101 --logit-bias 97 1.5"
    out = run(capsys, "the end", *words.split(), "--max-new-tokens", "9", "--no-echo").out
    texts = gpt2lab.generate(
        model,
        tokenizer,
        "the end",
        num_beams=3,
        samples=2,
        no_repeat_ngram_size=2,
        early_stopping="never",
        length_penalty=0.5,
        min_new_tokens=3,
        bad_words=["th", "x"],
        stop_tokens=[101],
        logit_bias={97: 1.5},
        max_new_tokens=9,
    )
    shown = [f"=== sample {i} of 2 ===\n{text}" for i, text in enumerate(texts, 1)]
    assert out == "".join(text if text.endswith("\n") else text + "\n" for text in shown)


def test_beams_are_counted_in_tokens(capsys):
    err = run(capsys, "the", "--num-beams", "2", "--max-new-tokens", "7", "--min-new-tokens", "7").err
    assert err.startswith("[7 tokens in ")


def test_probabilities_are_listed_afterwards(capsys, model, tokenizer):
    err = run(capsys, "the", "--logprobs", "2", "--max-new-tokens", "3", "--seed", "1").err.splitlines()
    options = gpt2lab.generation.options.SamplingOptions(max_new_tokens=3, seed=1, logprobs=2)
    [completion] = gpt2lab.generation.engine.complete(model, tokenizer, ["the"], options)
    assert len(err) == 1 + len(completion.logprobs)
    for line, rated in zip(err[1:], completion.logprobs, strict=True):
        assert line.startswith(f"{math.exp(rated.logprob):6.1%} {tokenizer.decode([rated.token])!r}")
        assert line.count("%") == 3


def test_a_draft_model_guesses(capsys, monkeypatch, model, tokenizer):
    options = ["the", "--temperature", "0", "--max-new-tokens", "20"]
    alone = run(capsys, *options).out
    assert run(capsys, *options, "--draft", "smaller").out == alone
    assert run(capsys, *options, "--prompt-lookup", "4", "--cache-mib", "1").out == alone
    other = train_bpe(["another vocabulary"], 260)
    loads = {"some-model": (model, tokenizer), "smaller": (model, other)}
    monkeypatch.setitem(gpt2lab.__dict__, "load", loads.get)
    with pytest.raises(UserError, match="draft smaller: its vocabulary is not that of some-model"):
        run(capsys, *options, "--draft", "smaller")


def test_the_prompt_can_be_left_out(capsys):
    with_prompt = run(capsys, "the", "--seed", "5").out
    assert "the" + run(capsys, "the", "--seed", "5", "--no-echo").out == with_prompt


def test_a_full_context_is_said(capsys):
    arguments = ["the", "--max-new-tokens", "60", "--temperature", "0"]  # greedy repeats itself for ever
    assert "the context of 32 tokens filled up; its last half was kept" in run(capsys, *arguments).err


def test_an_empty_prompt_starts_a_document(capsys, monkeypatch):
    by_argument = run(capsys, "", "--seed", "1")
    set_stdin(monkeypatch, b"")
    assert run(capsys, "--seed", "1").out == by_argument.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--prompt-file", "b"], "more than one prompt"),
        (["a", "--interactive"], "more than one prompt"),
        (["--prompt-file", "no-such-file"], "no-such-file: no such file"),
        (["a", "--samples", "0"], "samples: 0 is not possible"),
        (["a", "--top-p", "2"], "top_p: 2.0 is not possible"),
        (["a", "--temperature", "nan"], "temperature: nan is not possible"),
        (["a", "--stop", ""], "stop: .* is not possible"),
        (["a", "--num-beams", "2", "--top-k", "5"], "top_k: does not go with num_beams 2"),
        (["a", "--logprobs", "-1"], "logprobs: -1 is not possible"),
        (["a", "--cache-mib", "0"], "cache_mib: 0 is not possible"),
        (["a", "--draft", "other", "--num-beams", "2"], "draft: does not go with num_beams 2"),
        (["a", "--logit-bias", "999", "1.0"], "logit_bias: there is no token 999"),
        (["x " * 99], "prompt: .* tokens do not fit the model's context of 32"),
        ([b"caf\xe9".decode("utf-8", "surrogateescape")], "prompt: not UTF-8 text: byte 3 is 0xe9"),
    ],
)
def test_mistakes_are_user_errors(arguments, message):
    with pytest.raises(UserError, match=message):
        command.main(["some-model", *arguments])


def test_piped_text_must_be_utf8(monkeypatch):
    set_stdin(monkeypatch, b"caf\xe9")
    with pytest.raises(UserError, match="standard input: not UTF-8 text: byte 3 is 0xe9"):
        command.main(["some-model"])


def test_a_model_without_a_tokenizer_cannot_talk(monkeypatch, model):
    monkeypatch.setitem(gpt2lab.__dict__, "load", lambda name: (model, None))
    with pytest.raises(UserError, match="some-model: there is no tokenizer"):
        command.main(["some-model", "a"])


@pytest.mark.parametrize("line", ["", "m --top 3", "m a --seed x", "m --device tpu"])
def test_misspelt_options_exit_with_2(line):
    with pytest.raises(SystemExit) as caught:
        command.main(line.split())
    assert caught.value.code == 2


def test_help_has_examples_and_imports_nothing_heavy(capsys):
    code = """
        import sys
        from gpt2lab.cli.generate import main
        try:
            main(["--help"])
        except SystemExit:
            sys.exit(bool({"torch", "numpy", "matplotlib", "tiktoken"} & set(sys.modules)))
    """
    command_line = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "examples:\n  gpt2lab generate gpt2" in done.stdout


def test_an_interrupted_text_says_what_was_done(capsys, monkeypatch):
    def interrupted(*args, **options):
        yield gpt2lab.generation.engine.Piece(0, "so far")
        raise KeyboardInterrupt

    import gpt2lab.generation.engine

    monkeypatch.setattr(gpt2lab.generation.engine, "stream", interrupted)
    out, err = run(capsys, "the", code=130)
    assert out == "theso far\n"
    assert err.startswith("[1 tokens in ")
    set_stdin(monkeypatch, b"one\ntwo\n")  # in a conversation only the text ends
    assert run(capsys, "--interactive").out == "oneso far\ntwoso far\n"


# What needs a process of its own: a terminal, signals, a reader that leaves.

SCRIPT = """
import signal, sys, torch, gpt2lab
from gpt2lab.cli.generate import main
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import train_bpe
tokenizer = train_bpe(["the end of the story"], 260)
config = ModelConfig(vocab_size=tokenizer.vocab_size, context_length=32, n_layer=1, n_head=2, n_embd=16)
model = GPT(config).initialise(torch.Generator().manual_seed(0))
gpt2lab.__dict__["load"] = lambda name: (model, tokenizer)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
sys.exit(main(["some-model", "--device", "cpu", *sys.argv[1:]]))
"""


@pytest.fixture
def spawn():
    started = []

    def start(*arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
        command_line = [sys.executable, "-c", SCRIPT, *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        started.append(
            subprocess.Popen(command_line, stdin=stdin, stdout=stdout, stderr=stderr, env=environment)
        )
        return started[0]

    yield start
    started[0].kill()
    started[0].communicate()


def test_a_reader_that_leaves_is_no_error(spawn):
    process = spawn("the", "--max-new-tokens", "100000", "--temperature", "0")
    process.stdout.read(100)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=60) == 141
    assert b"Traceback" not in errors
    assert b"Broken" not in errors


def test_ctrl_c_ends_with_130_and_whole_lines(spawn):
    process = spawn("the", "--max-new-tokens", "1000000", "--temperature", "0")
    assert process.stdout.read(3) == b"the"
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    # Shells report 130 for both: Python ends itself by the signal if that came while some library was in
    # exec() of a string, even though it was handled (_Py_UnhandledKeyboardInterrupt in CPython 3.11).
    assert process.returncode in (130, -signal.SIGINT)
    assert out == b"" or out.endswith(b"\n")
    assert b"tokens/s; seed" in errors
    assert b"Traceback" not in errors


def read_until(terminal, what, seconds=60):
    seen = b""
    deadline = time.monotonic() + seconds
    while what not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:  # the other side is closed
                break
    assert what in seen, seen
    return seen


def test_a_conversation_on_a_terminal(spawn):
    terminal, theirs = pty.openpty()
    process = spawn("--max-new-tokens", "30", "--seed", "1", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    read_until(terminal, b"> ")
    os.write(terminal, b"the end\n")
    seen = read_until(terminal, b"\n> ")
    assert b"\x1b[1mthe end\x1b[0m" in seen
    # The model is random and may end its text early.
    text, n_tokens = re.fullmatch(
        r"(.*)\[(\d+) tokens in .*seed 1\]\s+> ", seen.split(b"\x1b[0m", 1)[1].decode(), re.S
    ).groups()
    assert 0 < int(n_tokens) <= 30
    assert "\ufffd" in text
    assert not re.search(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]", text)  # a random model wrote some
    os.write(terminal, b"x " * 40 + b"\n")
    assert b"do not fit the model's context" in read_until(terminal, b"\n> ")
    os.write(terminal, b"\x04")
    assert process.wait(timeout=60) == 0
    os.close(terminal)
