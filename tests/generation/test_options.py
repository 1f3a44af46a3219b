import subprocess
import sys
from dataclasses import fields

import pytest

from gpt2lab.base.errors import UserError
from gpt2lab.generation.option_rules import _RANGES
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


TOGETHER = [
    ({"min_new_tokens": 6, "max_new_tokens": 5}, "min_new_tokens: 6 is more than max_new_tokens 5"),
    ({"length_penalty": 2.0}, "length_penalty: does not go with num_beams 1: it ranks beams"),
    ({"early_stopping": True}, "early_stopping: does not go with num_beams 1: it ranks beams"),
    ({"num_beams": 2, "top_k": 40}, "top_k: does not go with num_beams 2: beam search draws nothing"),
    ({"num_beams": 2, "typical_p": 0.5}, "typical_p: does not go with num_beams 2"),
    ({"num_beams": 2, "temperature": 0.5}, "temperature: does not go with num_beams 2"),
    ({"num_beams": 2, "penalty_alpha": 0.5}, "penalty_alpha: does not go with num_beams 2"),
    ({"num_beams": 2, "prompt_lookup": 5}, "prompt_lookup: does not go with num_beams 2"),
    ({"num_beams": 2, "samples": 3}, "samples: 3 texts cannot come from 2 beams"),
    ({"penalty_alpha": 0.5}, "penalty_alpha: contrastive search chooses .* top_k is 0"),
    ({"penalty_alpha": 0.5, "top_k": 1}, "penalty_alpha: .* top_k is 1. Set top_k to 2 or more"),
    ({"penalty_alpha": 0.5, "top_k": 4, "min_p": 0.1}, "min_p: does not go with penalty_alpha 0.5"),
    ({"penalty_alpha": 0.5, "top_k": 4, "temperature": 2}, "temperature: does not go with penalty_alpha 0.5"),
    ({"penalty_alpha": 0.5, "top_k": 4, "prompt_lookup": 2}, "prompt_lookup: does not go with"),
    ({"penalty_alpha": 0.5, "top_k": 4, "samples": 2}, "samples: does not go with .* has one result"),
]


@pytest.mark.parametrize(("options", "message"), TOGETHER)
def test_options_that_do_not_go_together_say_why(options, message):
    with pytest.raises(UserError, match=message):
        SamplingOptions(**options)


def test_every_option_has_a_rule_and_stands_in_one_group():
    names = [option.name for option in fields(SamplingOptions)]
    assert sorted(names) == sorted(_RANGES)
    groups = [option.name for group in SamplingOptions.__bases__ for option in fields(group)]
    assert sorted(groups) == sorted(names)


def test_changing_options_leaves_the_others():
    options = SamplingOptions(top_k=5, seed=1)
    assert options.changed({"stop": "a", "top_p": 0.5}) == SamplingOptions(
        top_k=5, seed=1, stop=("a",), top_p=0.5
    )
    assert options.changed({}) == options


def test_fresh_seeds_are_valid_and_differ():
    seeds = [fresh_seed() for _ in range(20)]
    assert len(set(seeds)) > 15
    for seed in seeds:
        SamplingOptions(seed=seed)


def test_importing_the_options_does_not_import_torch():
    code = "import sys, gpt2lab.generation.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
