import subprocess
import sys

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.generation.options import MAX_SEED, SamplingOptions, fresh_seed

BAD = {
    "max_new_tokens": [0, -1, 1.5, True, "10", None],
    "temperature": [-0.1, float("nan"), float("inf"), 1e-9, "hot", None, True],
    "top_k": [-1, 0.5, True, None],
    "top_p": [0, -0.5, 1.01, float("nan"), "all"],
    "seed": [-1, MAX_SEED + 1, 1.0, "x"],
    "stop": [("",), ("a", ""), "text", ["a"], (1,)],
}
GOOD = {
    "max_new_tokens": [1, 10**9],
    "temperature": [0, 0.0, 1e-6, 1, 1e300],
    "top_k": [0, 1, 10**9],
    "top_p": [1e-300, 0.5, 1, 1.0],
    "seed": [None, 0, MAX_SEED],
    "stop": [(), ("\n",), ("a", "é")],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD for value in BAD[name]])
def test_a_bad_value_is_refused_by_name(name, value):
    with pytest.raises(UserError) as caught:
        SamplingOptions(**{name: value})
    assert caught.value.where == name


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in GOOD for value in GOOD[name]])
def test_a_good_value_is_taken(name, value):
    assert getattr(SamplingOptions(**{name: value}), name) == value


def test_fresh_seeds_are_valid_and_differ():
    seeds = [fresh_seed() for _ in range(20)]
    assert len(set(seeds)) > 15
    for seed in seeds:
        SamplingOptions(seed=seed)


def test_importing_the_options_does_not_import_torch():
    code = "import sys, gpt2lab.generation.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
