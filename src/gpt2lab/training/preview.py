"""What a recipe amounts to, before anything is started: `gpt2lab train RECIPE --dry-run`.

What is printed is the recipe itself, with every field; the figures stand in its comments.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import tomli_w

from gpt2lab.base.device import device_label, pick_device
from gpt2lab.base.errors import UserError
from gpt2lab.base.hardware import ACCELERATORS, Accelerator
from gpt2lab.base.progress import format_bytes, format_duration
from gpt2lab.base.toml_table import as_table
from gpt2lab.model.config import count_parameters
from gpt2lab.training.flops import flops_per_token
from gpt2lab.training.forecast import ASSUMED_MFU, Forecast, forecast_here, forecast_on, tokens_of
from gpt2lab.training.memory import MemoryPlan, memory_plan
from gpt2lab.training.recipe import Recipe

_TOKEN_BYTES = 2  # in published shards


def preview(
    recipe: Recipe, hardware: Sequence[str] = (), devices: int = 1, price_per_hour: float | None = None
) -> str:
    """The recipe with every field, then its size and what it takes here and elsewhere, in plain text.

    Args:
        recipe: what would be trained.
        hardware: names of accelerators; all that are known where none is given.
        devices: how many of them.
        price_per_hour: of one, in the user's money.

    Raises:
        UserError: there is no accelerator of that name; a number makes no sense.
    """
    chosen = _accelerators(hardware, devices, price_per_hour)
    blocks = [_sizes(recipe), _here(recipe), _elsewhere(recipe, chosen, devices, price_per_hour)]
    summary = recipe.summary.strip().splitlines()
    comments = "\n#\n".join("\n".join(f"# {line}".rstrip() for line in block) for block in (summary, *blocks))
    return f"{comments}\n\n{tomli_w.dumps(as_table(dataclasses.replace(recipe, summary='')))}"


def _accelerators(names: Sequence[str], devices: int, price_per_hour: float | None) -> Sequence[Accelerator]:
    for name in names:
        if name not in ACCELERATORS:
            raise UserError(
                f"no figures are known for {name!r}",
                where="--hardware",
                fix=f"Known: {', '.join(ACCELERATORS)}",
            )
    if devices < 1:
        raise UserError(f"{devices} are not possible", where="--devices", fix="Give 1 or more")
    if price_per_hour is not None and not 0 <= price_per_hour < float("inf"):
        raise UserError(f"{price_per_hour} is no price", where="--price-per-hour", fix="Give 0 or more")
    return [ACCELERATORS[name] for name in names or ACCELERATORS]


def _sizes(recipe: Recipe) -> list[str]:
    n_parameters, tokens = count_parameters(recipe.model), tokens_of(recipe)
    flops = flops_per_token(recipe.model)
    rows = {
        "parameters": f"{n_parameters:,}",
        "tokens": f"{tokens:,} ({tokens / n_parameters:.1f} a parameter)",
        "a step": f"{recipe.batch_sequences:,} sequences of {recipe.model.context_length:,} tokens",
        "FLOPs a token": f"{flops.total / 1e6:,.1f}M, counted as PaLM does (its appendix B): 6 a weight",
        "  blocks alone": f"{flops.blocks / 1e6:,.1f}M (Kaplan et al. 2020 count these only, as 6N)",
        "  output head": f"{flops.head / 1e6:,.1f}M",
        "  attention": f"{flops.attention / 1e6:,.1f}M (12 x layers x context x channels)",
        "FLOPs in all": f"{flops.total * tokens:.2e}",
    }
    if "/" in recipe.data.path:
        rows["data"] = (
            f"{recipe.data.path}; so many tokens, read once, are {format_bytes(_TOKEN_BYTES * tokens)}"
        )
    return _rows(rows)


def _here(recipe: Recipe) -> list[str]:
    found = forecast_here(recipe)
    assert found.probe is not None
    placing, device = found.placing, pick_device(recipe.device)
    rows = {
        "here": f"{device_label(device)}, {placing.precision}, "
        f"{'compiled' if placing.compiled else 'not compiled'}, timed for a second: "
        f"{found.probe.flops / 1e9:,.0f} GFLOP/s, {found.probe.read / 1e9:,.0f} GB/s",
        "micro-batch": f"{placing.micro_batch:,}"
        + ("" if recipe.micro_batch else " (found)")
        + (", activations computed anew" if placing.recompute else ""),
        "memory": f"{format_bytes(found.memory.total)} of {format_bytes(found.room)} free"
        + _verdict(recipe, found),
        **{f"  {name}": size for name, size in _parts(found.memory)},
        "speed": f"about {found.tokens_per_s:,.0f} tokens/s",
        "time": _time(recipe, found),
    }
    rows["a checkpoint on disk"] = format_bytes(
        4 * count_parameters(recipe.model) + found.memory.optimizer * placing.shares
    )
    return _rows(rows)


def _verdict(recipe: Recipe, found: Forecast) -> str:
    if found.fits:
        return ""
    if found.placing.recompute:
        return ": DOES NOT FIT"
    anew = memory_plan(recipe.model, dataclasses.replace(found.placing, recompute=True)).total
    return f": DOES NOT FIT; with --recompute-activations it takes {format_bytes(anew)}"


def _time(recipe: Recipe, found: Forecast) -> str:
    if recipe.minutes:
        return (
            f"{recipe.minutes:g} minutes, as asked for; all {recipe.schedule.steps:,} steps would take "
            + (format_duration(found.seconds))
        )
    return f"about {_long_duration(found.seconds)}, validations and saves apart"


def _parts(plan: MemoryPlan) -> Iterator[tuple[str, str]]:
    names = {"loss": "logits and loss", "runtime": "libraries, workspace"}
    for field in dataclasses.fields(plan):
        yield names.get(field.name, field.name), format_bytes(getattr(plan, field.name))


def _elsewhere(
    recipe: Recipe, chosen: Sequence[Accelerator], devices: int, price_per_hour: float | None
) -> list[str]:
    """A line for each accelerator, and where its figures are from."""
    lines = [
        f"on {'one' if devices == 1 else f'{devices:,}'} of these, at an MFU of {ASSUMED_MFU:.0%} "
        "(assumed; by its scripts' step times llm.c reaches 44 to 52%):"
    ]
    sources = {}
    for accelerator in chosen:
        found = forecast_on(recipe, accelerator, devices)
        price, source = price_per_hour, "--price-per-hour"
        if price is None:
            price, source = accelerator.price, accelerator.price_source
        if found.fits:
            cost = (
                "?"
                if price is None
                else f"{found.cost(price):,.0f} {'dollars' if price_per_hour is None else ''}".rstrip()
            )
            spread = f"FSDP over {found.placing.shares}, " if found.placing.shares > 1 else ""
            spread += "activations anew, " if found.placing.recompute else ""
            lines.append(
                f"  {accelerator.name:<11}{spread}micro-batch {found.placing.micro_batch}, "
                f"{format_bytes(found.memory.total)}, {found.tokens_per_s:,.0f} tokens/s, "
                f"{_long_duration(found.seconds)}, cost {cost}"
            )
            if price and source:
                sources[accelerator.name] = source
        else:
            lines.append(
                f"  {accelerator.name:<11}does not fit: {format_bytes(found.memory.total)} of "
                f"{format_bytes(found.room)} with a micro-batch of {max(1, found.placing.micro_batch)}"
            )
    lines += [f"  prices: {name}: {source}" for name, source in sources.items() if price_per_hour is None]
    if price_per_hour is None:
        lines.append("  a price that is not known here is not guessed: give yours with --price-per-hour")
    return lines


def _long_duration(seconds: float) -> str:
    return format_duration(seconds) if seconds < 172_800 else f"{seconds / 86_400:,.1f} days"


def _rows(rows: dict[str, str]) -> list[str]:
    return [f"{name + ':':<31}{value}" for name, value in rows.items()]
