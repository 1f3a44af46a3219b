import json
import math
import random
import statistics

import pytest

from gpt2lab.training.spikes import FEWEST, WINDOW, SpikeWatch


def quiet(watch, n, seed=0):
    """Show it `n` ordinary steps: losses about 3, gradient norms about 1."""
    rng = random.Random(seed)
    steps = [(rng.gauss(3, 0.1), rng.gauss(1, 0.05)) for _ in range(n)]
    return steps, [watch.verdict(loss, norm) for loss, norm in steps]


def test_what_stands_out_is_named_and_the_ordinary_is_not():
    watch = SpikeWatch(6.0)
    assert not any(quiet(watch, 200)[1])
    assert watch.verdict(2.0, 0.5) == ""  # below the mean is no harm
    assert watch.verdict(4.5, 1.0).startswith("the loss 4.5 stands out from the last 128 (mean 2.9")
    assert watch.verdict(3.0, 2.5).startswith("the gradient norm 2.5 stands out")


def test_the_limit_is_so_many_standard_deviations_above_the_mean_of_the_last_window():
    for above, expected in ((-1e-6, False), (1e-6, True)):
        watch = SpikeWatch(4.0)
        losses = [loss for loss, _ in quiet(watch, WINDOW + 50)[0]][-WINDOW:]
        limit = statistics.fmean(losses) + 4 * statistics.pstdev(losses)
        assert bool(watch.verdict(limit + above, 1.0)) == expected


def test_it_says_nothing_before_it_has_seen_enough_and_nothing_when_off():
    watch = SpikeWatch(6.0)
    quiet(watch, FEWEST - 1)
    assert watch.verdict(100.0, 100.0) == ""
    off = SpikeWatch(0.0)
    quiet(off, 200)
    assert off.verdict(100.0, 100.0) == ""
    assert not any(off.state().values())


def test_a_loss_that_has_changed_for_good_is_taken_for_usual_within_a_few_steps():
    watch = SpikeWatch(6.0)
    quiet(watch, 200)
    verdicts = [bool(watch.verdict(5.0, 1.0)) for _ in range(20)]
    assert verdicts[0]
    assert not any(verdicts[5:])


def test_values_that_are_no_numbers_leave_no_trace():
    watch, other = SpikeWatch(6.0), SpikeWatch(6.0)
    for each in (watch, other):
        quiet(each, 100)
    assert watch.verdict(math.nan, 1.0) == watch.verdict(3.0, math.inf) == ""
    assert watch.state() == other.state()


@pytest.mark.parametrize("seen", [0, 50, 300])
def test_put_back_from_json_it_decides_the_same(seen):
    watch, resumed = SpikeWatch(2.0), SpikeWatch(2.0)
    quiet(watch, seen)
    resumed.load_state(json.loads(json.dumps(watch.state())))
    assert quiet(watch, 300, seed=1) == quiet(resumed, 300, seed=1)
    assert any(quiet(watch, 300, seed=2)[1])
