"""The CPU engine against plain PyTorch, for every set of instructions this machine has or can emulate."""

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2lab.base.errors import UserError
from gpt2lab.generation import cpu_engine
from gpt2lab.generation.cpu_engine import CpuEngine
from gpt2lab.generation.decoder import TorchBackend
from gpt2lab.generation.engine import complete
from gpt2lab.generation.kernels import build
from gpt2lab.generation.options import SamplingOptions
from gpt2lab.model.config import ModelConfig
from gpt2lab.model.gpt import GPT

try:
    BEST = build.best_variant()
    build.library(BEST)
except build.BuildError as error:
    pytest.skip(f"no CPU engine here: {error}", allow_module_level=True)

RUNNABLE = [variant for variant in build.variants() if variant.needs <= build.processor_flags()]
PRECISIONS = ("bf16", "int8", "int4", "int4-fast")
CONTEXT = 160
SHAPES = {
    "gpt2": ModelConfig(vocab_size=203, context_length=CONTEXT, n_layer=2, n_head=4, n_embd=96),
    "gpt1": ModelConfig("gpt1", vocab_size=100, context_length=CONTEXT, n_layer=2, n_head=3, n_embd=72),
    "untied, erf": ModelConfig(
        vocab_size=64, context_length=CONTEXT, n_layer=1, n_head=1, n_embd=64, activation="gelu",
        tie_word_embeddings=False,
    ),
    "odd widths": ModelConfig(
        vocab_size=50, context_length=CONTEXT, n_layer=2, n_head=5, n_embd=100, n_inner=70, activation="silu",
        scale_attn_by_inverse_layer_idx=True,
    ),
    "relu": ModelConfig(
        vocab_size=33, context_length=CONTEXT, n_layer=1, n_head=2, n_embd=40, activation="relu",
        scale_attn_weights=False,
    ),
}  # fmt: skip
# Relative error of the scores, root mean square: a few roundings of 8, 7 and 4 bits.
BOUND = {"bf16": 0.006, "int8": 0.02, "int4": 0.2, "int4-fast": 0.2}


def random_model(config):
    model = GPT(config).initialise(torch.Generator().manual_seed(1)).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += torch.randn(parameter.shape, generator=generator) * 0.1
            else:
                parameter *= 3
    return model


def random_tokens(config, rows, n):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(config.vocab_size, (rows, n), generator=generator).tolist()


def scores(decoder, row, tokens, start=0):
    return decoder.logits(decoder.feed(row, [tokens], [start], [len(tokens)]))


def relative_error(got, expected):
    return float((got - expected).pow(2).mean().sqrt() / expected.std())


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def case(request):
    """A model, tokens for three rows, and PyTorch's scores of them."""
    config = SHAPES[request.param]
    model, tokens = random_model(config), random_tokens(config, 3, 100)
    decoder = TorchBackend(model).decoder(3, CONTEXT)
    expected = torch.stack([scores(decoder, row, tokens[row]) for row in range(3)])
    return model, tokens, expected


@pytest.mark.parametrize("precision", PRECISIONS)
def test_scores_are_pytorchs(case, precision):
    model, tokens, expected = case
    decoder = CpuEngine(model, precision).decoder(3, CONTEXT)
    prompt = decoder.logits(decoder.feed(0, tokens, [0] * 3, [100] * 3)).view_as(expected)
    assert relative_error(prompt, expected) < BOUND[precision]
    short = scores(decoder, 0, tokens[0][:60])  # below the length of a prompt: 8-bit inputs
    later = scores(decoder, 0, tokens[0][60:], 60)
    assert relative_error(torch.cat([short, later]), expected[0]) < BOUND[precision]


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.slow
def test_every_variant_computes_the_same(case, precision, variant):
    model, tokens, expected = case
    decoder = CpuEngine(model, precision, variant=variant).decoder(3, CONTEXT)
    prompt = decoder.logits(decoder.feed(0, tokens, [0] * 3, [100] * 3)).view_as(expected)
    assert relative_error(prompt, expected) < BOUND[precision]
    assert relative_error(scores(decoder, 0, tokens[0][:60]), expected[0, :60]) < BOUND[precision]


def lossless(weight, precision):
    """Whole multiples of a power of two that use the format's whole range in every group of 32."""
    generator = torch.Generator().manual_seed(4)
    low, high, scale = {"int8": (-127, 127, 2.0**-11), "int4": (-8, 7, 2.0**-7)}[precision]
    whole = torch.randint(low, high + 1, weight.shape, generator=generator)
    whole[:, ::32] = low
    return whole * scale


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_packing_loses_nothing_of_what_the_format_holds(precision):
    """Weights that the format holds exactly give the error of bfloat16 inputs alone."""
    config = SHAPES["gpt2"]
    model = random_model(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and name != "wpe.weight":
                parameter.copy_(lossless(parameter, "int8" if name == "wte.weight" else precision))
    tokens = random_tokens(config, 1, 100)[0]
    expected = scores(TorchBackend(model).decoder(1, CONTEXT), 0, tokens)
    hidden = CpuEngine(model, precision).decoder(1, CONTEXT).feed(0, [tokens], [0], [100])
    assert relative_error(model.lm_head(hidden).detach(), expected) < 0.006


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_rows_bits_do_not_depend_on_its_company(case, precision):
    model, tokens, _ = case
    decoder = CpuEngine(model, precision).decoder(20, CONTEXT)
    crowd = [row[:n] for row in tokens for n in (100, 70, 40, 17, 1)]
    together = decoder.feed(0, crowd, [0] * 15, [1] * 15)
    alone = torch.cat([decoder.feed(19, [row], [0], [1]) for row in crowd])
    assert torch.equal(together, alone)
    step = decoder.feed(0, [[7]] * 15, [len(row) for row in crowd], [1] * 15)
    decoder.feed(19, [crowd[6]], [0], [1])
    assert torch.equal(decoder.feed(19, [[7]], [len(crowd[6])], [1])[0], step[6])
    assert torch.equal(decoder.logits(step)[6], decoder.logits(step[6:7])[0])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_several_tokens_at_once_are_the_same_bits_as_one_by_one(case, precision):
    model, tokens, _ = case
    decoder = CpuEngine(model, precision).decoder(2, CONTEXT)
    for row in (0, 1):
        decoder.feed(row, [tokens[0][:30]], [0], [1])
    at_once = decoder.feed(0, [tokens[0][30:70]], [30], [40])
    one_by_one = [decoder.feed(1, [[token]], [30 + i], [1]) for i, token in enumerate(tokens[0][30:70])]
    assert torch.equal(at_once, torch.cat(one_by_one))


@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_number_of_threads_changes_nothing(case, n_threads):
    model, tokens, _ = case
    two = CpuEngine(model, "int8", n_threads=2).decoder(3, CONTEXT)
    other = CpuEngine(model, "int8", n_threads=n_threads).decoder(3, CONTEXT)
    for n in (100, 40):
        fed = [row[:n] for row in tokens]
        assert torch.equal(two.feed(0, fed, [0] * 3, [n] * 3), other.feed(0, fed, [0] * 3, [n] * 3))


def test_copied_slots_are_those_of_the_source(case):
    model, tokens, _ = case
    decoder = CpuEngine(model).decoder(3, CONTEXT)
    decoder.feed(0, [tokens[0]], [0], [1])
    decoder.feed(1, [tokens[1]], [0], [1])
    for start, stop in ((5, 37), (37, 38), (0, 5), (38, 97), (97, 100)):  # within, across and between blocks
        decoder.copy_row(0, 2, start, stop)
    expected = decoder.feed(0, [[3]], [100], [1])
    assert torch.equal(decoder.feed(2, [[3]], [100], [1]), expected)
    decoder.copy_row(1, 2, 50, 60)  # nothing but these slots
    changed = decoder.feed(2, [[3]], [100], [1])
    assert not torch.equal(changed, expected)
    decoder.copy_row(0, 2, 50, 60)
    assert torch.equal(decoder.feed(2, [[3]], [100], [1]), expected)


def test_a_reused_row_forgets_what_it_held(case):
    model, tokens, _ = case
    decoder = CpuEngine(model, "int4").decoder(2, CONTEXT)
    decoder.feed(0, [tokens[0]], [0], [1])
    used = decoder.feed(0, [tokens[1][:20]], [0], [20])
    assert torch.equal(used, decoder.feed(1, [tokens[1][:20]], [0], [20]))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_texts_do_not_depend_on_the_batch(make_model, tokenizer, precision):
    """Whole generations, past the context too: prompts of all lengths together and one by one."""
    engine = CpuEngine(make_model(), precision)
    prompts = ["the", "stop sign costs 2€ " * 4, "", "café and the END of Zoë"]
    options = SamplingOptions(max_new_tokens=90, temperature=0.8, top_k=20, seed=5)
    together = complete(engine, tokenizer, prompts, options)
    for number, prompt in enumerate(prompts):
        seeded = SamplingOptions(max_new_tokens=90, temperature=0.8, top_k=20, seed=5 + number)
        assert complete(engine, tokenizer, [prompt], seeded)[0].tokens == together[number].tokens


def test_the_cache_takes_what_was_announced(case):
    model, _, _ = case
    engine = CpuEngine(model)
    decoder = engine.decoder(64, CONTEXT)
    taken = engine._library.cache_bytes(decoder._cache)
    assert 0 <= taken - 64 * engine.row_bytes(CONTEXT) < 2**21  # memory comes in huge pages


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["wte.weight", "h.1.mlp.c_fc.weight", "ln_f.bias"])
def test_damaged_weights_are_refused(name, precision):
    """Rounded to whole numbers, NaN would be a number like any other."""
    model = random_model(SHAPES["gpt2"])
    with torch.no_grad():
        model.get_parameter(name).view(-1)[5] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        CpuEngine(model, precision)


# ---- building ----------------------------------------------------------------------


def test_without_a_compiler_there_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build, "SOURCES", copied_sources(tmp_path / "src"))
    with pytest.raises(build.BuildError, match=r"no C\+\+ compiler"):
        build.library(BEST)


def test_a_compilers_error_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    sources = copied_sources(tmp_path / "src")
    (sources / "engine.cpp").write_text("#error broken\n")
    monkeypatch.setattr(build, "SOURCES", sources)
    with pytest.raises(build.BuildError, match="broken"):
        build.compile_library(BEST, tmp_path / "out" / "engine.so")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_library_that_does_not_load_is_told(monkeypatch, tmp_path):
    (tmp_path / "engine.so").write_bytes(b"no library")
    monkeypatch.setattr(build, "library", lambda variant: tmp_path / "engine.so")
    with pytest.raises(build.BuildError, match=r"cannot be loaded.*engine\.so"):
        CpuEngine(random_model(SHAPES["gpt2"]))


def test_changed_sources_are_another_library(tmp_path, monkeypatch):
    sources = copied_sources(tmp_path / "src")
    monkeypatch.setattr(build, "SOURCES", sources)
    before = build._digest(BEST)
    (sources / "matrix.h").write_text((sources / "matrix.h").read_text() + "// changed\n")
    assert build._digest(BEST) != before


def copied_sources(folder):
    """The sources alone, without any library that was compiled beside them."""
    folder.mkdir(parents=True)
    for source in (*build.SOURCES.glob("*.h"), *build.SOURCES.glob("*.cpp")):
        shutil.copy(source, folder)
    return folder


def test_an_unknown_processor_has_no_variant(monkeypatch):
    monkeypatch.setattr(build.platform, "machine", lambda: "riscv64")
    with pytest.raises(build.BuildError, match="riscv64"):
        build.best_variant()


def test_a_plain_processor_gets_the_portable_variant(monkeypatch):
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(build, "processor_flags", lambda: frozenset({"sse2"}))
    assert build.best_variant().name == "portable"


@pytest.mark.parametrize("tie_word_embeddings", [True, False])
def test_int4_fast_scores_the_likely_tokens_as_int4_does(tie_word_embeddings):
    """Bit for bit in the panels of the best 64 tokens and more, and the others nearly."""
    config = ModelConfig(
        vocab_size=3001, context_length=CONTEXT, n_layer=1, n_head=2, n_embd=64,
        tie_word_embeddings=tie_word_embeddings,
    )  # fmt: skip
    model = random_model(config)
    tokens = torch.randint(0, 3001, (9, 20), generator=torch.Generator().manual_seed(3)).tolist()
    scores = {}
    for precision in ("int4", "int4-fast"):
        decoder = CpuEngine(model, precision).decoder(9, CONTEXT)
        scores[precision] = decoder.logits(decoder.feed(0, tokens, [0] * 9, [1] * 9))
    exact, fast = scores["int4"], scores["int4-fast"]
    assert torch.equal(fast.topk(20).values, exact.topk(20).values)
    same = (exact == fast).sum(dim=1)
    assert same.min() >= 64 * 16 - 15  # the last panel is not full
    assert same.max() < 1500
    assert (fast - exact).std() < 0.15 * exact.std()


# ---- emulated processors -----------------------------------------------------------


def dump(model, precision, tokens, path, wide):
    """What engine_driver.cpp reads."""
    written = [bytes(cpu_engine.shape_of(model.config))]
    written.append(struct.pack("4i", *cpu_engine.FORMATS[precision], 2))
    for kind, layer, name, numbers in cpu_engine.parts_of(model):
        data = numbers.detach().float().contiguous().numpy()
        written.append(struct.pack("4i", kind, layer, name, data.size) + data.tobytes())
    written.append(struct.pack(f"3i{len(tokens)}i", -1, wide, len(tokens), *tokens))
    path.write_bytes(b"".join(written))


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """The driver compiled for an Arm processor with dot products, and what runs it."""
    compiler, emulator = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64-static")
    if not (compiler and emulator):
        pytest.skip("needs aarch64-linux-gnu-g++ and qemu-aarch64-static")
    program = tmp_path_factory.mktemp("arm") / "driver"
    (neon,) = (variant for variant in build.VARIANTS["aarch64"] if variant.name == "neon")
    flags = [flag for flag in build._FLAGS if flag not in ("-shared", "-fPIC")]
    sources = ["-I", str(build.SOURCES), str(Path(__file__).with_name("engine_driver.cpp"))]
    subprocess.run([compiler, "-static", *flags, *neon.flags, *sources, "-o", str(program)], check=True)
    return [emulator, "-cpu", "max", str(program)]


@pytest.mark.slow
@pytest.mark.parametrize("wide", [False, True], ids=["decoding", "prompt"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_arm_computes_the_same(case, emulated, precision, wide, tmp_path):
    model, tokens, expected = case
    dump(model, precision, tokens[0], tmp_path / "in", wide)
    subprocess.run([*emulated, str(tmp_path / "in"), str(tmp_path / "out")], check=True, timeout=300)
    got = torch.from_numpy(np.fromfile(tmp_path / "out", np.float32)).view_as(expected[0])
    assert relative_error(got, expected[0]) < BOUND[precision]
