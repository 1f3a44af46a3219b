import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.training.recipe import ScheduleConfig
from gpt2lab.training.schedule import learning_rate_factor


def factors(schedule):
    return [learning_rate_factor(step, schedule) for step in range(schedule.steps)]


def test_warm_up_is_a_straight_line_to_the_peak():
    assert factors(ScheduleConfig(steps=100, warmup_steps=4))[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors(ScheduleConfig(steps=100, warmup_steps=0))[0] == 1.0


def test_wsd_holds_the_peak_and_goes_down_over_its_share_of_the_steps():
    schedule = ScheduleConfig(steps=101, warmup_steps=5, decay="wsd", decay_share=0.2, final_fraction=0.1)
    found = factors(schedule)
    assert found[4:81] == [1.0] * 77
    for step in range(80, 101):
        assert found[step] == pytest.approx(0.1 + 0.9 * (1 - math.sqrt((step - 80) / 20)))
    all_of_it = ScheduleConfig(steps=11, warmup_steps=4, decay="wsd", decay_share=1.0, final_fraction=0.0)
    assert factors(all_of_it)[4] == 1.0
    assert factors(all_of_it)[-1] == 0.0


def torch_factors(steps, make):
    """What one of torch's schedulers makes of a learning rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_schedules_are_those_of_torch():
    from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

    def with_warmup(down):
        def make(optimizer):
            up = LinearLR(optimizer, start_factor=0.1, end_factor=1.0, total_iters=9)
            return SequentialLR(optimizer, [up, down(optimizer)], milestones=[10])

        return make

    cosine = torch_factors(60, with_warmup(lambda o: CosineAnnealingLR(o, T_max=49, eta_min=0.1)))
    linear = torch_factors(60, with_warmup(lambda o: LinearLR(o, 1.0, 0.2, total_iters=49)))
    same = {"steps": 60, "warmup_steps": 10}
    assert factors(ScheduleConfig(decay="cosine", final_fraction=0.1, **same)) == pytest.approx(cosine)
    assert factors(ScheduleConfig(decay="linear", final_fraction=0.2, **same)) == pytest.approx(linear)


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
        decay=st.sampled_from(["cosine", "linear", "wsd"]),
        decay_share=st.floats(0.01, 1),
        final_fraction=st.floats(0, 1),
    )
)
def test_any_schedule_stays_between_nothing_and_the_peak(schedule):
    assert all(0 <= factor <= 1 for factor in factors(schedule))
    if schedule.steps > schedule.warmup_steps:
        assert max(factors(schedule)) == 1


def test_a_shortened_schedule_keeps_its_share_of_warm_up():
    schedule = ScheduleConfig(steps=1000, warmup_steps=100)
    assert schedule.shortened(200) == ScheduleConfig(steps=200, warmup_steps=20)
    assert schedule.shortened(5000) == ScheduleConfig(steps=5000, warmup_steps=100)
