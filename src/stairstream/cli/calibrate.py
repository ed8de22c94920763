"""`stairstream calibrate`: measures the cost model of every model of a configuration, one after the other."""

import asyncio
from collections.abc import Callable
from datetime import date
from pathlib import Path

from stairstream.backends.limits import OwnTurns
from stairstream.cli.eval_output import open_bar
from stairstream.cli.prediction import CalibrateOptions
from stairstream.cli.terminal import show_loading, tell
from stairstream.config.build import Engines, open_engines
from stairstream.config.graphs import build_graph
from stairstream.config.models import ModelConfig
from stairstream.config.schema import Config, load_config
from stairstream.core.errors import BackendError, ConfigError
from stairstream.plan.calibrating import MOST_AT_ONCE, Amount, Calibration, amount_of, calibrate, loads_of
from stairstream.plan.endpoints import write_costs


def calibrate_all(options: CalibrateOptions) -> None:
    """Measure, and print or keep the file. Raises ConfigError for bad input, the first model's error after all.

    Whatever is missing or not sure is told; `--within-s` gives more time.
    """
    config = load_config(options.config)
    names = list(dict.fromkeys(options.model or config.models))
    if unknown := sorted(set(names) - set(config.models)):
        raise ConfigError(f"--model: {config.file} has no model {unknown[0]!r}; there is {', '.join(config.models)}")
    _check_out(options.out)
    most = [_most_of(config.models[name]) for name in names]
    calls, prompts = sum(one.calls for one in most), sum(one.prompt_tokens for one in most)
    tell(f"{len(names)} model(s): at most {calls} calls, about {prompts:,} prompt tokens")
    found, failed = asyncio.run(_measure(config, names, options.within_s))
    for name, one in found.items():
        if one.left_out:
            tell(f"{name}: {', '.join(one.left_out)}")
    costs = {name: one.costs for name, one in found.items()}
    text = write_costs(costs, f"Costs in seconds, measured by `stairstream calibrate` on {date.today().isoformat()}.")
    if options.out is None:
        print(text if costs else "", end="")
    elif costs:
        options.out.write_text(text, encoding="utf-8")
        tell(f"costs of {', '.join(costs)} in {options.out}")
    for name, error in failed.items():
        raise BackendError(f"model {name!r}: {error}") from error


def _check_out(file: Path | None) -> None:
    """Before any call is paid. Raises ConfigError if the file can't be written. It leaves no file."""
    if file is None:
        return
    was_there = file.exists()
    try:
        with file.open("a", encoding="utf-8"):
            pass
        if not was_there:
            file.unlink()
    except OSError as exc:
        raise ConfigError(f"--out: {file} can't be written: {exc.strerror or exc}") from exc


def _most_of(model: ModelConfig) -> Amount:
    return amount_of(loads_of(_most_at_once(model), is_engine=not model.is_remote))


def _most_at_once(model: ModelConfig) -> int:
    """As many calls at once as its `max_concurrency` lets through."""
    return min(MOST_AT_ONCE, model.common.max_concurrency or MOST_AT_ONCE)


async def _measure(
    config: Config, names: list[str], within_s: float
) -> tuple[dict[str, Calibration], dict[str, BackendError]]:
    found, failed = dict[str, Calibration](), dict[str, BackendError]()
    # an engine has the slots that runs will find it with
    graphs = [build_graph(config.models, pipeline) for pipeline in config.pipelines.values()]
    with open_bar("calibrate", sum(_most_of(config.models[name]).calls for name in names)) as advance:
        for name in names:  # one at a time, so that no model slows another down
            async with open_engines(config, graphs, show_loading) as engines:
                try:
                    found[name] = await _calibrate(config.models[name], engines, advance, within_s)
                except BackendError as exc:
                    failed[name] = exc
    return found, failed


async def _calibrate(
    model: ModelConfig, engines: Engines, advance: Callable[[int], None], within_s: float
) -> Calibration:
    """Within the limits of the model: its slots, its calls at once, and its calls per minute."""
    left = _most_of(model).calls

    def made(more: int) -> None:
        nonlocal left
        left -= more
        advance(more)

    backend = await engines.make_backend(model)
    at_once = _most_at_once(model) if backend.room is None else min(_most_at_once(model), backend.room.count)
    per_minute = model.common.requests_per_minute
    turn = None if per_minute is None else OwnTurns(per_minute).wait
    try:
        return await calibrate(backend, made, at_once=at_once, turn=turn, within_s=within_s)
    finally:
        advance(left)  # calls that were not needed
