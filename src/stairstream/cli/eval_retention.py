"""`stairstream eval retention`: how much of what waiting gives a policy keeps, with a bar while it is computed."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from stairstream.backends.torch.backend import find_torch_model
from stairstream.cli.eval_output import open_bar, print_json, print_tables, results_folder, tell, write_report
from stairstream.config.policies import (
    ADAPTIVE,
    Places,
    PolicyChoice,
    check_quorum,
    override_policy,
    own_policy,
    read_settings,
)
from stairstream.config.reading import Where, nearest
from stairstream.core.errors import ConfigError, MissingExtra
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import Layout
from stairstream.eval.identity import name_model
from stairstream.eval.kept import Kept
from stairstream.eval.recorded import PROPOSERS, REFERENCE, pick, read_prompts
from stairstream.eval.retention.figure import draw
from stairstream.eval.retention.report import make_table
from stairstream.eval.retention.scores import RetentionRow, Score, Setup

if TYPE_CHECKING:
    from stairstream.backends.torch.load import Dtype, Loaded

LAYOUTS: tuple[Layout, ...] = get_args(Layout)
DEFAULT_LAYOUTS: tuple[Layout, ...] = ("insert", "grouped")
TOO_LONG = (("paper", "grouped"),)
"""Takes as long as all others together, so it is only done when it is asked for."""
_PLACES = Places(preset=Where(file="--policy"), numbers=Where(file="--policy"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of the command; see its help."""

    data: Path
    limit: int
    cut: int
    model: str
    policies: Sequence[str]
    layouts: Sequence[str]
    dtype: str
    threads: int | None
    out: Path | None
    late_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that came of the evaluation. `cut_tokens` None: texts were whole."""

    model: str
    num_prompts: int
    cut_tokens: int | None
    late_s: float
    rows: tuple[RetentionRow, ...]


def eval_retention(choices: Choices, *, as_json: bool) -> None:
    """Evaluate and print. Raises ConfigError for what can't be, before a model is loaded."""
    setups = read_setups(choices.policies, choices.layouts)
    prompts = pick(read_prompts(choices.data, (*PROPOSERS, REFERENCE)), choices.limit)
    _check_installed()
    from stairstream.eval.retention.evaluating import RetentionPlan, evaluate

    file = find_torch_model(choices.model)
    dtype = _read_dtype(choices.dtype)
    plan = RetentionPlan(
        prompts=prompts,
        setups=setups,
        most_tokens=choices.cut or None,
        model=name_model(file),
        dtype=dtype,
        late_s=choices.late_s,
    )
    folder = choices.out or results_folder()
    kept = Kept(folder / "retention.jsonl", Score)
    try:
        with open_bar("retention", plan.num_scores) as advance:
            rows = evaluate(cache(lambda: _load(file, dtype, choices.threads)), plan, kept, advance)
    except BaseException:
        if len(kept):
            tell(f"what was computed so far is kept in {folder}; the same command goes on from there")
        raise
    late = f", one proposer {choices.late_s:g} s late" if choices.late_s else ""
    title = f"Retention over {len(prompts)} prompts, {_say_cut(choices.cut)}{late}"
    tables = [make_table(rows, title)]
    report = Report(
        model=choices.model,
        num_prompts=len(prompts),
        cut_tokens=choices.cut or None,
        late_s=choices.late_s,
        rows=rows,
    )
    write_report(folder, "retention", "Retention", tables, report)
    if not draw(rows, folder / "retention.svg"):
        tell("no picture: it needs matplotlib; install it with: pip install 'stairstream[eval]'")
    if as_json:
        print_json(report)
    else:
        print_tables(tables)
        tell(f"all in {folder}")


def read_setups(policies: Sequence[str], layouts: Sequence[str]) -> list[Setup]:
    """Every policy in every layout; a policy is a preset, single numbers, or a preset with some of them changed."""
    for layout in layouts:
        if layout not in LAYOUTS:
            raise ConfigError(f"--layout: {layout!r} is not a layout{nearest(layout, LAYOUTS)}")
    chosen = [layout for name in layouts for layout in LAYOUTS if layout == name] or DEFAULT_LAYOUTS
    names = list(dict.fromkeys(policies)) or [name for name in PRESETS if name != "wait"]
    return [
        Setup(name=name, policy=read_policy(name), layout=layout)
        for layout in chosen
        for name in names
        if policies or layouts or (name, layout) not in TOO_LONG
    ]


def read_policy(text: str) -> Policy:
    """A preset, single numbers, or a preset with some of them changed. Raises ConfigError."""
    parts = [part.strip() for part in text.split(",")]
    preset = None if "=" in parts[0] else parts.pop(0)
    if preset == ADAPTIVE:
        raise ConfigError("--policy: adaptive needs the rates of earlier runs; name a preset or numbers")
    settings = read_settings(parts)
    if preset is None:
        policy = own_policy(settings, _PLACES.numbers)
        check_quorum(policy, len(PROPOSERS), _PLACES.numbers / "quorum")
        return policy
    return override_policy(PolicyChoice(), preset, settings, len(PROPOSERS), _PLACES).policy


def _check_installed() -> None:
    for package in ("torch", "transformers", "gguf"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(f"eval retention needs {package}; install it with: pip install 'stairstream[torch]'")


def _read_dtype(name: str) -> "Dtype":
    match name:
        case "float32" | "bfloat16":
            return name
    raise ConfigError(f"--dtype: must be float32 or bfloat16, not {name!r}")


def _load(file: Path, dtype: "Dtype", threads: int | None) -> "Loaded":
    import torch

    from stairstream.backends.torch.load import load

    if threads is not None:
        torch.set_num_threads(threads)
    return load(file, dtype)


def _say_cut(cut: int) -> str:
    return f"texts cut at {cut} tokens" if cut else "whole texts"
