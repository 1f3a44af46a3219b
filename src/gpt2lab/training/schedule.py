"""The learning rate over time: linear warm-up, then a cosine (GPT-1 to GPT-3) or a straight line down."""

import math

from gpt2lab.training.recipe import ScheduleConfig


def learning_rate_factor(step: int, schedule: ScheduleConfig) -> float:
    """Share of the peak learning rate to use in step `step` (counted from 0).

    Warm-up gives 1/w, 2/w, ..., 1 in its w steps. The way down ends at `final_fraction` in the last step
    (GPT-3 paper, appendix B: cosine to 10%).
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    way_down = max(1, schedule.steps - 1 - schedule.warmup_steps)
    done = min(1.0, (step - schedule.warmup_steps) / way_down)
    shape = 0.5 * (1 + math.cos(math.pi * done)) if schedule.decay == "cosine" else 1 - done
    return schedule.final_fraction + (1 - schedule.final_fraction) * shape
