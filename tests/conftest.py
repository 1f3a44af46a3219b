"""What every test may ask for."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# How long an example takes says nothing on a busy machine.
# Continuous integration tries the same examples each time; elsewhere every run tries new ones.
settings.register_profile("gpt2lab", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("gpt2lab")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of public test data, named by GPT2LAB_TEST_DATA; the test skips where it is unset."""
    folder = os.environ.get("GPT2LAB_TEST_DATA")
    if not folder:
        pytest.skip("GPT2LAB_TEST_DATA is not set: public vocabularies, books and goldens are not at hand")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny matrices: a second thread only waits, above all on a busy machine."""
    torch.set_num_threads(1)
