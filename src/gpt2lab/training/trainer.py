"""The training loop: step, measure, validate, sample, save; resumable to the bit at any moment.

Resuming is exact because a run's future depends only on what a checkpoint holds: weights, optimizer state
and the number of steps taken. The order of data and dropout's randomness follow from the step number
(`data.loader`, `training.step`), and the circumstances (precision, micro-batch, compiled or not) are kept in
run.json. After a crash the metrics are cut back to the checkpoint and written again, the same.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpt2lab.base.device import peak_memory
from gpt2lab.base.errors import UserError
from gpt2lab.base.toml_table import as_table
from gpt2lab.checkpoint.runs import checkpoint_folders
from gpt2lab.data.evaluation_windows import sequential_windows
from gpt2lab.data.published import PublishedShards
from gpt2lab.model.gpt import GPT
from gpt2lab.tokenizer import Tokenizer
from gpt2lab.training.expected_curve import ExpectedCurve, closing_words, load_expected_curve
from gpt2lab.training.facts import Facts
from gpt2lab.training.flops import flops_per_token
from gpt2lab.training.health import UpdateWatch
from gpt2lab.training.interrupt import StopRequest, stop_on_signal
from gpt2lab.training.live import LiveView, say
from gpt2lab.training.parallel import shared_out
from gpt2lab.training.recipe import Recipe
from gpt2lab.training.restore import Saved, newest_whole_checkpoint
from gpt2lab.training.run import Row, RunFolder
from gpt2lab.training.saving import Saver
from gpt2lab.training.schedule import learning_rate_factor
from gpt2lab.training.setup import Session, build_session, within_memory
from gpt2lab.training.step import StepOutcome, determinism
from gpt2lab.training.validate import bytes_of_tokens, validate
from gpt2lab.training.world import World
from gpt2lab.training.writers import writers_of

Sampler = Callable[[GPT, Tokenizer, str], str]  # (model, tokenizer, prompt) -> the prompt's continuation
SKIPS_BEFORE_STOP = 3


@dataclass
class Position:
    """Where a run stands; with weights and optimizer state, all that a checkpoint holds."""

    step: int = 0  # steps taken
    seconds: float = 0.0  # spent so far, over all resumptions
    best_loss: float = math.inf  # lowest validation loss of a saved checkpoint, nats per token
    best_step: int = -1  # of that checkpoint
    skipped_in_a_row: int = 0  # for not being finite; spikes do not count


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended: its last checkpoint and whether every step was taken."""

    checkpoint: Path
    finished: bool
    step: int


def train(
    run: RunFolder,
    data: Path | PublishedShards,
    tokenizer: Tokenizer | None = None,
    sampler: Sampler | None = None,
    world: World | None = None,
) -> TrainingResult:
    """Start a run or go on with it, until its last step or until someone asks it to stop.

    Args:
        run: holds the recipe, and everything so far if the run was started before; locked by the caller.
        data: folder of token shards with a train and a val split, or published ones.
        tokenizer: saved beside the weights; also needed for bits per byte and samples.
        sampler: writes samples on the way.
        world: the processes that share the work; without it this one does it alone.

    Raises:
        UserError: see `build_session`; also a full disk, and a loss that is not finite in three steps in a
            row. The last good checkpoint is intact after each.
    """
    recipe, world = run.recipe(), world or World()
    with determinism(not recipe.fast), stop_on_signal() as stop:
        started_with = world.on_first(run.facts)
        earlier = Facts.from_json(started_with) if started_with else None
        saved = newest_whole_checkpoint(run, world)
        weights = saved.weights if saved else None
        curve = load_expected_curve(recipe.expected_curve) if recipe.expected_curve else None
        session = build_session(recipe, data, tokenizer, earlier, weights, world)
        loop = _Loop(run, recipe, session, tokenizer, sampler, curve)
        loop.restore(saved)
        del saved, weights  # three times the model's size in main memory
        if earlier is None:
            run.save_facts(session.facts.to_json())
        else:
            loop.note_differences(earlier)
        with loop.writing():
            return loop.go(stop)


class _Loop:
    """One process's part of a run."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        session: Session,
        tokenizer: Tokenizer | None,
        sampler: Sampler | None,
        curve: ExpectedCurve | None,
    ) -> None:
        self.run, self.recipe, self.session = run, recipe, session
        self.curve = curve
        self.world = session.step.placement.world
        self.tokenizer, self.sampler = tokenizer, sampler
        self.schedule = recipe.schedule.shortened(session.facts.steps)
        self.position = Position()
        self._updates = UpdateWatch(session.step.placement)
        self._last_validation = (-1, math.inf)  # step and loss
        self._unlogged: list[float] = []  # seconds of the steps since the last row, nothing else counted
        self.bytes_of_token_V = None
        if tokenizer is not None:
            self.bytes_of_token_V = bytes_of_tokens(tokenizer)
        on_gpu = session.step.device.type != "cpu"
        background = recipe.background_saves == "on" or (recipe.background_saves == "auto" and on_gpu)
        self.saver = Saver(run, tokenizer, self.world, background=background)

    def restore(self, saved: Saved | None) -> None:
        """Stand where `saved` was taken; without it, at the beginning."""
        if saved is not None:
            self.session.step.optimizers.load_state(dict(saved.optimizer_state))
            facts = dict(saved.position)
            self.session.step.spikes.load_state(facts.pop("recent", {}))
            self.position = Position(**facts)
            say(f"resumed after step {self.position.step:,}")
        self.run.cut_metrics(self.position.step if self.position.step else None)

    def note_differences(self, earlier: Facts) -> None:
        """Say and record why the last bits will differ from those of the run as it began, if they do."""
        for difference in earlier.differences(self.session.facts):
            say(f"not bit-identical from here: {difference}")
            self.run.add_metrics({"kind": "event", "step": self.position.step, "what": difference})

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Pass the metrics on to whom the recipe names, for as long as the block lasts."""
        names = self.recipe.writers if self.world.is_first else ()
        writers = writers_of(names, self.run.path, as_table(self.recipe), self.position.step)
        self.run.listeners.extend(writers)
        try:
            yield
        finally:
            self.run.listeners.clear()
            for writer in writers:
                writer.close()

    def go(self, stop: StopRequest) -> TrainingResult:
        """The loop itself."""
        position, steps = self.position, self.schedule.steps
        with LiveView(position.step, steps) as self.live, self.saver:
            self._saved_at = time.monotonic()
            self._clock = self._saved_at - position.seconds
            if position.step == 0:
                self._validate()
            while position.step < steps:
                self._take_step()
                done = position.step == steps
                stopping, late = self.world.total(float(bool(stop)), float(self._save_is_late()))
                if done or position.step % self.recipe.validate_every == 0:
                    self._validate()
                if self.recipe.sample_every and position.step % self.recipe.sample_every == 0:
                    self._sample()
                if done or stopping or late or position.step % self.recipe.save_every == 0:
                    self._save()
                if stopping:
                    break
            self.saver.wait()
            if position.step == steps:
                self._judge()
        newest = self.run.checkpoint(position.step)
        return TrainingResult(newest, position.step == steps, position.step)

    def _take_step(self) -> None:
        """Take one step; log it when due; stop the run when steps keep failing."""
        position = self.position
        factor = learning_rate_factor(position.step, self.schedule)
        logged = (position.step + 1) % self.recipe.log_every == 0 or position.step + 1 == self.schedule.steps
        if logged:
            self._updates.before()
        started = time.monotonic()
        outcome = self._within_memory(factor)
        self._unlogged.append(time.monotonic() - started)
        position.step += 1
        position.seconds = time.monotonic() - self._clock
        self.live.step_done(position.step)
        if outcome.skipped:
            self._record_skip(outcome)
            return
        position.skipped_in_a_row = 0
        if logged:
            self._log(outcome, factor, self._updates.ratio())

    def _within_memory(self, factor: float) -> StepOutcome:
        """Take the step; where memory runs out in its gradients, take it again with half the micro-batch."""
        step = self.session.step
        return within_memory(step, lambda: step.take(self.position.step, factor), self._remember)

    def _remember(self, micro_batch: int) -> None:
        """Record a smaller micro-batch, from whichever process it is that lacks memory."""
        run = RunFolder(self.run.path)
        run.save_facts((run.facts() or {}) | {"smaller_micro_batch": micro_batch})
        what = f"out of memory: not bit-identical from here, micro_batch is {micro_batch}"
        self.run.add_metrics({"kind": "event", "step": self.position.step, "what": what})

    def _log(self, outcome: StepOutcome, factor: float, update_ratio: float) -> None:
        position, facts = self.position, self.session.facts
        tokens_per_s = self._tokens_of_unlogged() / sum(self._unlogged)
        flops = flops_per_token(self.recipe.model).total
        row = {
            "kind": "train",
            "step": position.step,
            "tokens": self._tokens(position.step),
            "loss": outcome.loss,
            "lr": self.recipe.optimizer.learning_rate * factor,
            "grad_norm": outcome.gradient_norm,
            "update_ratio": update_ratio,
            "tokens_per_s": tokens_per_s,
            "mfu": tokens_per_s * flops / (facts.peak_flops * facts.processes),
            "seconds": position.seconds,
            "memory_bytes": peak_memory(self.session.step.device),
        }
        self._unlogged.clear()
        self.run.add_metrics(row)
        self.live.logged(row)

    def _tokens(self, step: int) -> int:
        """Tokens read by the first `step` steps."""
        loader = self.session.step.loader
        return loader.sizes.span(step)[0] * loader.context_length

    def _tokens_of_unlogged(self) -> int:
        last = self.position.step
        return self._tokens(last) - self._tokens(last - len(self._unlogged))

    def _record_skip(self, outcome: StepOutcome) -> None:
        position = self.position
        position.skipped_in_a_row = position.skipped_in_a_row + 1 if outcome.not_finite else 0
        self.run.add_metrics({"kind": "skipped", "step": position.step, "reason": outcome.skipped})
        self.live.say(f"step {position.step:,} skipped, weights unchanged: {outcome.skipped}")
        if position.skipped_in_a_row == SKIPS_BEFORE_STOP:
            self.saver.wait()
            saved = checkpoint_folders(self.run.path)
            raise UserError(
                f"{SKIPS_BEFORE_STOP} steps in a row had no finite loss or gradient, the last being step "
                f"{position.step:,}: {outcome.skipped}",
                where=self.run.path,
                fix="Start a run with a lower learning rate or a longer warm-up"
                + (f", or from the last good checkpoint with --init-from {saved[-1]}" if saved else ""),
            )

    def _validate(self) -> None:
        position, step = self.position, self.session.step
        context_length, limit = self.recipe.model.context_length, self.recipe.validate_tokens
        windows = sequential_windows(self.session.held_out, context_length, step.micro_batch, limit)
        own = shared_out(windows, self.world)
        result = validate(step.model, own, self.bytes_of_token_V, step.dtype).added_up(self.world)
        tokens = self._tokens(position.step)
        row: Row = {
            "kind": "validation",
            "step": position.step,
            "tokens": tokens,
            "loss": result.loss,
            "bits_per_byte": result.bits_per_byte,
            "seconds": position.seconds,
        }
        if self.curve and (edges := self.curve.at(tokens)):
            row |= {"expected_low": edges[0], "expected": edges[1], "expected_high": edges[2]}
            row |= {"verdict": self.curve.verdict(tokens, result.loss)}
        self._last_validation = (position.step, result.loss)
        self.run.add_metrics(row)
        self.live.validated(row)

    def _judge(self) -> None:
        """Say how the whole run lay to the curve it was expected to keep to."""
        if self.curve is None:
            return
        verdicts = [row["verdict"] for row in self.run.metrics() if row.get("verdict")]
        if words := closing_words(verdicts, self.curve):
            self.live.say(words)

    def _sample(self) -> None:
        if self.sampler is None or self.tokenizer is None:
            return
        model, prompt = self.session.step.placement.whole_model(), self.recipe.sample_prompt
        if model is None:
            return
        text = self.sampler(model.to(self.session.step.device), self.tokenizer, prompt)
        self.run.add_metrics({"kind": "sample", "step": self.position.step, "prompt": prompt, "text": text})
        self.live.say(f"--- sample after step {self.position.step:,}: {prompt}{text}\n---")

    def _save_is_late(self) -> bool:
        minutes = self.recipe.save_minutes
        return minutes > 0 and time.monotonic() - self._saved_at >= 60 * minutes

    def _save(self) -> None:
        position, self._saved_at = self.position, time.monotonic()
        validated_step, loss = self._last_validation
        if validated_step == position.step and loss < position.best_loss:
            position.best_step, position.best_loss = position.step, loss
        facts = dataclasses.asdict(position) | {"recent": self.session.step.spikes.state()}
        self.saver.save(self.session.step, facts, position.step, position.best_step)
