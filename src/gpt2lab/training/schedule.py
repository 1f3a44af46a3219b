"""The learning rate over time: linear warm-up, then a way down of one of three shapes.

cosine   GPT-1 to GPT-3
linear   a straight line
wsd      warm-up, stable, decay: the peak is held, and only the last `decay_share` of the steps goes down,
         as 1 - sqrt(x): better than a straight line in Hägele et al. 2024 (arXiv 2405.18392)
"""

import math

from gpt2lab.training.recipe import ScheduleConfig


def learning_rate_factor(step: int, schedule: ScheduleConfig) -> float:
    """Share of the peak learning rate to use in step `step` (counted from 0).

    Warm-up gives 1/w, 2/w, ..., 1 in its w steps. The way down ends at `final_fraction` in the last step
    (GPT-3 paper, appendix B: cosine to 10%).
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    start = schedule.warmup_steps
    if schedule.decay == "wsd":
        start = max(start, schedule.steps - 1 - round(schedule.decay_share * schedule.steps))
    done = min(1.0, max(0, step - start) / max(1, schedule.steps - 1 - start))
    return schedule.final_fraction + (1 - schedule.final_fraction) * _shape(schedule.decay, done)


def _shape(decay: str, done: float) -> float:
    """How much of the way down is left, from 1 to 0, when the share `done` of its steps is done."""
    match decay:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "wsd":
            return 1 - math.sqrt(done)
    return 1 - done
