"""Every deterministic strategy against transformers: the cases of benchmarks/decoding_exactness.py."""

import importlib.util
import random
from pathlib import Path

import pytest
import transformers

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "decoding_exactness.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("decoding_exactness", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    transformers.logging.set_verbosity_error()
    return module


@pytest.fixture(scope="module")
def text(script):
    return script.english(160_000)


@pytest.fixture(scope="module")
def vocabulary(script, text):
    return script.train_bpe([text[:60_000]], 400)


def test_random_weights_give_the_tokens_of_transformers(script, text, vocabulary):
    exact = script.random_model(vocabulary).double()
    theirs = script.as_transformers(exact)
    dice = random.Random(0)
    lengths = set()
    for case in script.cases(vocabulary, script.end_tokens(exact, vocabulary, text)):
        prompts = script.pick_prompts(text, 2, dice)
        with script.unrounded():
            assert script.mismatches(exact, theirs, vocabulary, prompts, case) == [], case.name
            lengths |= {len(tokens) for tokens in script.reference(theirs, vocabulary, prompts, case)}
    assert len(lengths) > 8  # some end early


@pytest.mark.slow
def test_random_and_trained_weights_give_the_tokens_of_transformers(script, text, vocabulary):
    """550 prompts; float32 may differ where scores are closer than 1e-5."""
    trained = script.trained_model(vocabulary, text[:120_000], 250)
    for model in (script.random_model(vocabulary), trained):
        for name, _, wrong, _, margin in script.compare(model, vocabulary, text[120_000:], 11):
            assert wrong == 0, name
            assert margin < script.MARGIN, name
