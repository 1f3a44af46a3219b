"""The memory plan, and what happens when memory runs out all the same."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.errors import UserError
from gpt2lab.model.config import PRESETS, ModelConfig, count_parameters
from gpt2lab.training import memory, setup
from gpt2lab.training.memory import Placing, largest_micro_batch, memory_plan
from gpt2lab.training.step import TrainingStep
from gpt2lab.training.world import World

GPT2 = PRESETS["gpt2"]
PLACINGS = st.builds(
    Placing,
    micro_batch=st.integers(1, 64),
    accumulates=st.booleans(),
    optimizer=st.sampled_from(["adamw", "muon"]),
    precision=st.sampled_from(["bfloat16", "float32"]),
    device=st.sampled_from(["cpu", "cuda"]),
    compiled=st.booleans(),
    shares=st.integers(1, 16),
    recompute=st.booleans(),
    plain_attention=st.booleans(),
)


def test_what_is_known_exactly() -> None:
    """GPT-2 124M: 4 bytes a weight, 4 a gradient, 8 of AdamW; Muon keeps 4 for the blocks' matrices."""
    n_parameters, matrices = count_parameters(GPT2), 12 * 12 * 768**2
    plan = memory_plan(GPT2, Placing(1))
    assert plan.weights == plan.gradients == 4 * n_parameters
    assert plan.optimizer == 8 * n_parameters
    assert memory_plan(GPT2, Placing(1, optimizer="muon")).optimizer == 8 * n_parameters - 4 * matrices
    assert plan.total == sum(
        (plan.weights, plan.gradients, plan.optimizer, plan.activations, plan.loss, plan.runtime)
    )


@given(PLACINGS)
def test_more_processes_need_less_each_and_more_sequences_need_more(placing: Placing) -> None:
    plan, shared = memory_plan(GPT2, placing), memory_plan(GPT2, replace(placing, shares=placing.shares + 1))
    assert shared.optimizer <= plan.optimizer
    assert shared.total <= plan.total or shared.weights > plan.weights  # one block is whole in each
    assert memory_plan(GPT2, replace(placing, micro_batch=placing.micro_batch + 1)).total >= plan.total


@given(PLACINGS)
def test_one_micro_batch_a_step_never_needs_more_than_several(placing: Placing) -> None:
    one, several = (memory_plan(GPT2, replace(placing, accumulates=many)) for many in (False, True))
    assert one.total <= several.total
    assert 0 in (one.gradients, one.activations)


@given(PLACINGS)
def test_recomputing_keeps_a_blocks_activations_and_every_blocks_input(placing: Placing) -> None:
    kept, anew = (
        memory.activation_bytes(GPT2, replace(placing, recompute=choice)) for choice in (False, True)
    )
    assert anew == pytest.approx(kept / GPT2.n_layer + GPT2.n_layer * 4 * GPT2.n_embd)


@given(PLACINGS, st.floats(0, 100e9))
def test_the_largest_micro_batch_fits_and_one_more_does_not(placing: Placing, room: float) -> None:
    found = largest_micro_batch(GPT2, placing, room)
    if found:
        assert memory_plan(GPT2, replace(placing, micro_batch=found)).total <= room
    assert memory_plan(GPT2, replace(placing, micro_batch=found + 1)).total > room  # 0: not even one fits


def test_a_block_is_what_two_layers_have_more_than_one() -> None:
    assert (
        memory._block_parameters(ModelConfig(n_layer=5))
        == (124_439_808 - 50_257 * 768 - 1024 * 768 - 1536) // 12
    )


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A device that has room for so many sequences at a time."""
    compute = TrainingStep._backward

    def limit(rows: int) -> None:
        def backward(self: TrainingStep, inputs_BT: Any, *rest: Any) -> Any:
            if len(inputs_BT) > rows:
                raise torch.OutOfMemoryError("out of memory")
            return compute(self, inputs_BT, *rest)

        monkeypatch.setattr(TrainingStep, "_backward", backward)

    return limit


def test_out_of_memory_halves_the_micro_batch_and_goes_on(
    make_recipe: Any, train_in: Any, tmp_path: Any, small_memory: Any, capsys: Any
) -> None:
    whole = train_in(tmp_path / "whole", make_recipe(micro_batch=4))
    small_memory(1)
    run = train_in(tmp_path / "run", make_recipe(micro_batch=4))
    assert run.facts()["micro_batch"] == 4
    assert run.facts()["smaller_micro_batch"] == 1
    events = [row["what"] for row in run.metrics() if row["kind"] == "event"]
    assert events == [f"out of memory: not bit-identical from here, micro_batch is {n}" for n in (2, 1)]
    assert "out of memory; going on with a micro-batch of 1" in capsys.readouterr().err
    losses, expected = ([row["loss"] for row in one.metrics() if "loss" in row] for one in (run, whole))
    assert losses == pytest.approx(expected, rel=1e-4)


def test_out_of_memory_with_one_sequence_is_one_clear_line(
    make_recipe: Any, train_in: Any, tmp_path: Any, small_memory: Any
) -> None:
    small_memory(0)
    with pytest.raises(
        UserError, match="ran out of memory with a micro-batch of 1.*smaller model or context"
    ):
        train_in(tmp_path / "run", make_recipe())


def test_an_update_broken_off_is_not_taken_twice(
    make_recipe: Any, train_in: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def update(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", update)
    with pytest.raises(UserError, match="it goes on with 1; the last checkpoint is intact"):
        train_in(tmp_path / "run", make_recipe())


def test_with_other_processes_a_smaller_micro_batch_is_for_the_next_start(
    make_recipe: Any, sources: Any, tokenizer: Any, small_memory: Any
) -> None:
    session = setup.build_session(make_recipe(micro_batch=4), sources / "shards", tokenizer, None)
    step, remembered = session.step, []
    small_memory(2)
    step.placement.world = World(1, 2)
    with pytest.raises(UserError, match="micro-batch of 4.*--resume: it goes on with 2"):
        setup.within_memory(
            step, lambda: step._backward(*next(step.loader.micro_batches(0, 4)), 1), remembered.append
        )
    assert remembered == [2]
    assert step.micro_batch == 4


def test_a_resumption_goes_on_with_what_memory_had_room_for(
    make_recipe: Any, train_in: Any, tmp_path: Any, capsys: Any
) -> None:
    run = train_in(tmp_path / "run", make_recipe(micro_batch=4))
    run.save_facts(run.facts() | {"smaller_micro_batch": 2})
    capsys.readouterr()
    train_in(tmp_path / "run")
    assert "not bit-identical from here: micro_batch was 4 and is 2" in capsys.readouterr().err
    assert run.facts()["smaller_micro_batch"] == 2


def test_fsdp_keeps_whole_gradients_between_micro_batches() -> None:
    dealt = Placing(1, shares=8)
    several, one = (memory_plan(GPT2, replace(dealt, accumulates=choice)) for choice in (True, False))
    assert several.gradients == 4 * count_parameters(GPT2)
    assert one.gradients in (0, -(-several.gradients // 8))
