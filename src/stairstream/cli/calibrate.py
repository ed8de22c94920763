"""`stairstream calibrate`: measures the cost model of every model of a configuration, one after the other."""

import asyncio
from datetime import date
from pathlib import Path

from stairstream.cli.eval_output import open_bar
from stairstream.cli.prediction import CalibrateOptions
from stairstream.cli.terminal import show_loading, tell
from stairstream.config.build import open_engines
from stairstream.config.schema import Config, load_config
from stairstream.core.errors import BackendError, ConfigError
from stairstream.plan.calibrating import NUM_CALLS, NUM_PROMPT_TOKENS, calibrate
from stairstream.plan.endpoints import EndpointCosts, write_costs


def calibrate_all(options: CalibrateOptions) -> None:
    """Measure, and print or keep the file. Raises ConfigError for bad input, the first model's error after all."""
    config = load_config(options.config)
    names = list(dict.fromkeys(options.model or config.models))
    if unknown := sorted(set(names) - set(config.models)):
        raise ConfigError(f"--model: {config.file} has no model {unknown[0]!r}; there is {', '.join(config.models)}")
    _check_out(options.out)
    tell(f"{len(names)} model(s): {NUM_CALLS} calls each, about {NUM_PROMPT_TOKENS:,} prompt tokens")
    costs, failed = asyncio.run(_measure(config, names))
    text = write_costs(costs, f"Costs in seconds, measured by `stairstream calibrate` on {date.today().isoformat()}.")
    if options.out is None:
        print(text, end="")
    elif costs:
        options.out.write_text(text, encoding="utf-8")
        tell(f"costs of {', '.join(costs)} in {options.out}")
    for name, error in failed.items():
        raise BackendError(f"model {name!r}: {error}") from error


def _check_out(file: Path | None) -> None:
    """Before any call is paid. Raises ConfigError if the file can't be written."""
    if file is None:
        return
    try:
        with file.open("a", encoding="utf-8"):
            pass
    except OSError as exc:
        raise ConfigError(f"--out: {file} can't be written: {exc.strerror or exc}") from exc


async def _measure(config: Config, names: list[str]) -> tuple[dict[str, EndpointCosts], dict[str, BackendError]]:
    costs, failed = dict[str, EndpointCosts](), dict[str, BackendError]()
    with open_bar("calibrate", NUM_CALLS * len(names)) as advance:
        for name in names:  # one at a time, so that no model slows another down
            async with open_engines(config, (), show_loading) as engines:
                try:
                    costs[name] = await calibrate(await engines.make_backend(config.models[name]), advance)
                except BackendError as exc:
                    failed[name] = exc
    return costs, failed
