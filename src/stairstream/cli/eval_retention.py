"""`stairstream eval retention`: how much of what waiting gives a policy keeps, with a bar while it is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from stairstream.backends.extras import require
from stairstream.backends.models import find_weights
from stairstream.cli.eval import RetentionOptions
from stairstream.cli.eval_output import keeping, open_bar, results_folder, show_report
from stairstream.cli.eval_replays import ENGINE_PACKAGES, load_torch
from stairstream.cli.terminal import tell
from stairstream.config.policies import (
    ADAPTIVE,
    PolicyChoice,
    PolicyPaths,
    check_quorum,
    override_policy,
    own_policy,
    read_settings,
)
from stairstream.config.reading import Where, nearest
from stairstream.core.errors import ConfigError
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import AskedLayout
from stairstream.eval.data import ALPACA_EVAL, PROPOSERS, REFERENCE, find_data
from stairstream.eval.identity import name_model
from stairstream.eval.kept import Kept
from stairstream.eval.recorded import pick, read_prompts
from stairstream.eval.retention.figure import draw
from stairstream.eval.retention.report import make_table
from stairstream.eval.retention.scores import RetentionRow, Score, Setup

if TYPE_CHECKING:
    from stairstream.backends.in_process.networks import Dtype
    from stairstream.backends.torch.load import Loaded

LAYOUTS: tuple[AskedLayout, ...] = get_args(AskedLayout)
DEFAULT_LAYOUTS: tuple[AskedLayout, ...] = ("insert", "grouped")
TOO_LONG = (("paper", "grouped"),)
"""Takes as long as all others together, so it is only done when it is asked for."""
_PATHS = PolicyPaths(preset=Where(file="--policy"), numbers=Where(file="--policy"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that came of the evaluation. `cut_tokens` None: texts were whole."""

    model: str
    num_prompts: int
    proposers: tuple[str, ...]
    reference: str
    cut_tokens: int | None
    late_s: float
    rows: tuple[RetentionRow, ...]


def eval_retention(options: RetentionOptions) -> None:
    """Evaluate and print. Raises ConfigError for what can't be, before a model is loaded."""
    proposers = read_proposers(options.proposer)
    reference = read_reference(options.reference, proposers)
    setups = read_setups(options.policy or [], options.layout or [], len(proposers))
    data = options.data or find_data(ALPACA_EVAL)
    prompts = pick(read_prompts(data, (*proposers, reference)), options.limit)
    require("eval retention", ENGINE_PACKAGES["torch"], "torch")
    from stairstream.eval.retention.evaluating import RetentionPlan, evaluate

    file = find_weights(options.model)
    dtype = _read_dtype(options.dtype)
    plan = RetentionPlan(
        prompts=prompts,
        proposers=proposers,
        reference=reference,
        setups=setups,
        most_tokens=options.cut or None,
        model=name_model(file),
        dtype=dtype,
        late_s=options.late,
    )
    folder = options.out or results_folder()
    kept = Kept(folder / "retention.jsonl", Score)
    with keeping(folder, kept):
        with open_bar("retention", plan.num_scores) as advance:
            rows = evaluate(cache(lambda: _load(file, dtype, options)), plan, kept, advance)
    late = f", one proposer {options.late:g} s late" if options.late else ""
    systems_named = options.proposer or options.reference is not None
    chosen = f" of {reference} after {', '.join(proposers)}" if systems_named else ""
    title = f"Retention{chosen} over {len(prompts)} prompts, {_say_cut(options.cut)}{late}"
    tables = [make_table(rows, title)]
    report = Report(
        model=options.model,
        num_prompts=len(prompts),
        proposers=proposers,
        reference=reference,
        cut_tokens=options.cut or None,
        late_s=options.late,
        rows=rows,
    )
    show_report(folder, "retention", tables, report, as_json=options.as_json)
    if not draw(rows, folder / "retention.svg"):
        tell("no picture: it needs matplotlib; install it with: pip install 'stairstream[eval]'")
    if not options.as_json:
        tell(f"all in {folder}")


def _load(file: Path, dtype: "Dtype", options: RetentionOptions) -> "Loaded":
    """The model; said in a line, as the bar does not move meanwhile."""
    tell(f"loading {options.model}")
    return load_torch(file, dtype, options.threads)


def read_proposers(names: Sequence[str] | None) -> tuple[str, ...]:
    """The systems that are read. Raises ConfigError for one that is named twice."""
    proposers = tuple(names or PROPOSERS)
    for number, name in enumerate(proposers):
        if name in proposers[:number]:
            raise ConfigError(f"--proposer: {name} is named twice; name each system once")
    return proposers


def read_reference(name: str | None, proposers: Sequence[str]) -> str:
    """The system whose answers are scored. Raises ConfigError if it is read too."""
    reference = REFERENCE if name is None else name
    if reference in proposers:
        raise ConfigError(f"--proposer: {reference} is the reference, whose answers are scored; name another system")
    return reference


def read_setups(policies: Sequence[str], layouts: Sequence[str], num_proposers: int = len(PROPOSERS)) -> list[Setup]:
    """Every policy in every layout; a policy is a preset, single numbers, or a preset with some of them changed."""
    for layout in layouts:
        if layout not in LAYOUTS:
            raise ConfigError(f"--layout: {layout!r} is not a layout{nearest(layout, LAYOUTS)}")
    chosen = [layout for name in layouts for layout in LAYOUTS if layout == name] or DEFAULT_LAYOUTS
    names = list(dict.fromkeys(policies)) or [name for name in PRESETS if name != "wait"]
    return [
        Setup(name=name, policy=read_policy(name, num_proposers), layout=layout)
        for layout in chosen
        for name in names
        if policies or layouts or (name, layout) not in TOO_LONG
    ]


def read_policy(text: str, num_proposers: int = len(PROPOSERS)) -> Policy:
    """A preset, single numbers, or a preset with some of them changed. Raises ConfigError."""
    parts = [part.strip() for part in text.split(",")]
    preset = None if "=" in parts[0] else parts.pop(0)
    if preset == ADAPTIVE:
        raise ConfigError("--policy: adaptive needs the rates of earlier runs; name a preset or numbers")
    settings = read_settings(parts)
    if preset is None:
        policy = own_policy(settings, _PATHS.numbers)
        check_quorum(policy, num_proposers, _PATHS.numbers / "quorum")
        return policy
    return override_policy(PolicyChoice(), preset, settings, num_proposers, _PATHS).policy


def _read_dtype(name: str) -> "Dtype":
    match name:
        case "float32" | "bfloat16":
            return name
    raise ConfigError(f"--dtype: must be float32 or bfloat16, not {name!r}")


def _say_cut(cut: int) -> str:
    return f"texts cut at {cut} tokens" if cut else "whole texts"
