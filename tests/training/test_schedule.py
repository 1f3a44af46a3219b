import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.training.recipe import ScheduleConfig
from gpt2lab.training.schedule import learning_rate_factor


def factors(schedule):
    return [learning_rate_factor(step, schedule) for step in range(schedule.steps)]


def test_warm_up_is_a_straight_line_to_the_peak():
    assert factors(ScheduleConfig(steps=100, warmup_steps=4))[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors(ScheduleConfig(steps=100, warmup_steps=0))[0] == 1.0


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_the_way_down_begins_at_the_peak_and_ends_at_the_final_fraction(decay):
    schedule = ScheduleConfig(steps=50, warmup_steps=10, decay=decay, final_fraction=0.1)
    down = factors(schedule)[9:]
    assert down[0] == down[1] == 1.0
    assert down[-1] == pytest.approx(0.1)
    assert all(before > after for before, after in zip(down[1:], down[2:], strict=False))
    assert learning_rate_factor(1000, schedule) == pytest.approx(0.1)  # and stays there


def test_shapes_are_the_published_ones():
    cosine = ScheduleConfig(steps=101, warmup_steps=0, decay="cosine", final_fraction=0.1)
    linear = ScheduleConfig(steps=101, warmup_steps=0, decay="linear", final_fraction=0.0)
    for step in range(101):
        expected = 0.1 + 0.9 * (1 + math.cos(math.pi * step / 100)) / 2
        assert learning_rate_factor(step, cosine) == pytest.approx(expected)
        assert learning_rate_factor(step, linear) == pytest.approx(1 - step / 100)


@given(
    st.builds(
        ScheduleConfig,
        steps=st.integers(1, 60),
        warmup_steps=st.integers(0, 80),
        decay=st.sampled_from(["cosine", "linear"]),
        final_fraction=st.floats(0, 1),
    )
)
def test_any_schedule_stays_between_nothing_and_the_peak(schedule):
    assert all(0 <= factor <= 1 for factor in factors(schedule))
    if schedule.steps > schedule.warmup_steps:
        assert max(factors(schedule)) == 1
