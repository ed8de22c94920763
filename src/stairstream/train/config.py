"""A training run as people write it: one YAML file with a model, data, and stages that follow one another."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from stairstream.config.reading import (
    Amount,
    Bound,
    Positive,
    Share,
    Where,
    Whole,
    check_keys,
    mapping,
    read,
    show,
)
from stairstream.config.yaml_file import load_yaml
from stairstream.eval.data import ALPACA_EVAL, PROPOSERS, REFERENCE, find_data

TrainedLayout = Literal["rounds", "grouped", "insert"]
Updates = Literal["one", "all", "last"]
Precision = Literal["float32", "bfloat16"]
Optimizer = Literal["adamw", "adamw8bit"]
Offload = Literal["optimizer", "parameters"]
Bits = Literal["int8", "nf4"]


class Rate(float):
    """A small number, which YAML takes for text if it is written as 2e-5."""

    @classmethod
    def from_raw(cls, raw: object, where: Where) -> "Rate":
        """A number above 0."""
        try:
            found = cls(raw) if isinstance(raw, str | int | float) and not isinstance(raw, bool) else cls(0)
        except ValueError:
            found = cls(0)
        if not 0 < found < math.inf:
            raise where.error(f"must be a number above 0, not {show(raw)}")
        return found


_DEFAULT_LR = Rate(1e-5)


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers from `low` to `high`, of which each sample gets one."""

    low: float
    high: float

    @classmethod
    def from_raw(cls, raw: object, where: Where) -> "Span":
        """From one number, or a list of two."""
        pair = raw if isinstance(raw, list) else [raw, raw]
        if len(pair) != 2:
            raise where.error("must be a number, or a list of the least and the most")
        low, high = (_read_number(one, where) for one in pair)
        if not low <= high or (math.isinf(high) and low != high):
            raise where.error(f"must go from a number to a larger one, not from {show(pair[0])} to {show(pair[1])}")
        return cls(low, high)


def _read_number(raw: object, where: Where) -> float:
    if isinstance(raw, str) and raw.lower() == "inf":
        return math.inf
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise where.error(f"must be a number, not {show(raw)}")
    return float(raw)


@dataclass(frozen=True, slots=True)
class Mix:
    """Layouts and how often each of them is drawn."""

    shares: Mapping[TrainedLayout, float]

    @classmethod
    def from_raw(cls, raw: object, where: Where) -> "Mix":
        """From a layout's name, or a mapping of names to weights."""
        shares = {raw: 1.0} if isinstance(raw, str) else mapping(raw, where)
        names: tuple[TrainedLayout, ...] = get_args(TrainedLayout)
        if "quoted" in shares:
            raise (where / "quoted").error("is not trained by itself; train grouped, which has the same references")
        check_keys(shares, names, where)
        found: dict[TrainedLayout, float] = {}
        for name in names:
            if name in shares:
                number = _read_number(shares[name], where / name)
                if number < 0:
                    raise (where / name).error(f"must be a number of at least 0, not {show(shares[name])}")
                found[name] = number
        if not sum(found.values()) > 0:
            raise where.error("needs a layout with a weight above 0")
        return cls(found)


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory that a process may use: a number of GiB, or what is there (`auto`). Layers are computed again
    until a row fits; `none` and `full` do so never and always."""

    wanted: Literal["auto", "none", "full", "gib"]
    gib: float = 0.0

    @classmethod
    def from_raw(cls, raw: object, where: Where) -> "Memory":
        """From a word or a number."""
        match raw:
            case "auto" | "none" | "full":
                return cls(raw)
            case str():
                raise where.error(f"must be a number of GiB, auto, none or full, not {show(raw)}")
        gib = _read_number(raw, where)
        if not 0 < gib < math.inf:
            raise where.error(f"must be a number of GiB above 0, not {show(raw)}")
        return cls("gib", gib)


_AUTO = Memory("auto")


@dataclass(frozen=True, slots=True)
class SaveEvery:
    """The interval between checkpoints, in train steps, or in minutes."""

    steps: int | None = None
    minutes: float | None = None

    @classmethod
    def from_raw(cls, raw: object, where: Where) -> "SaveEvery":
        """From a number of train steps, or a text such as `10 min`."""
        if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 1:
            return cls(steps=raw)
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?min", raw.strip()) if isinstance(raw, str) else None
        if found is None or not float(found[1]) > 0:
            raise where.error(
                f"must be a number of train steps of at least 1, or minutes as in '10 min', not {show(raw)}"
            )
        return cls(minutes=float(found[1]))


_TEN_MINUTES = SaveEvery(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One part of a recipe; it continues with the weights of the one before, with a schedule and moments of its own.

    `wait` is the share of samples that read everything at once, `alone` that of those that read nothing; the others get
    a policy drawn from the ranges. `updates` says which steps of a `grouped` sample are trained, each a sequence of its
    own: `one` drawn by its length, `all`, or the `last`.

    `distill` is the weight of a teacher, the same weights after they have read everything: the loss is that share of
    the divergence from its words, and the rest of the cross-entropy of the reference's. `on_policy` is the share of
    `rounds` samples in which the network writes the answer itself, and the teacher alone says what would have been
    right.
    """

    name: str
    steps: Whole | None = None
    epochs: Positive | None = None
    layouts: Mix = field(default_factory=lambda: Mix({"rounds": 1.0}))
    first_chunk: Span = Span(8, 64)
    growth: Span = Span(1, 2)
    lead: Span = Span(0, 0)
    slope: Span = Span(0.25, 1)
    wait: Share = 0.0
    alone: Share = 0.0
    updates: Updates = "one"
    distill: Share = 0.0
    on_policy: Share = 0.0
    lr: Rate = _DEFAULT_LR
    final_lr: Share = 0.1
    warmup_steps: Annotated[int, Bound(least=0)] = 10
    batch_tokens: Whole = 16384
    sequence_tokens: Annotated[int, Bound(least=4)] = 4096
    cut_tokens: Annotated[int, Bound(least=0)] | None = None
    weight_decay: Amount = 0.01
    clip: Positive = 1.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("steps or epochs must be given, one of the two")
        if not self.first_chunk.low >= 1 or math.isinf(self.first_chunk.high):
            raise ValueError("first_chunk must be whole numbers of at least 1; for samples that wait there is `wait`")
        if not self.growth.low >= 1 or math.isinf(self.growth.high):
            raise ValueError("growth must be numbers of at least 1")
        if not 0 < self.slope.low or math.isinf(self.slope.high):
            raise ValueError("slope must be numbers above 0")
        if self.wait + self.alone > 1:
            raise ValueError("wait and alone must be shares of the same whole: together at most 1")
        if self.on_policy and not self.distill:
            raise ValueError("on_policy needs a teacher: give distill a share above 0")
        if self.on_policy and not self.layouts.shares.get("rounds"):
            raise ValueError("on_policy is a share of samples in rounds: give layouts.rounds a weight above 0")
        if self.batch_tokens % self.sequence_tokens:
            raise ValueError(
                f"batch_tokens must be a multiple of sequence_tokens ({self.sequence_tokens}), not {self.batch_tokens}"
            )

    @property
    def num_rows(self) -> int:
        """Packed rows of a train step, over all processes."""
        return self.batch_tokens // self.sequence_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """The numbers of processes that share the data (`dp`), each layer (`tp`) and the layers (`pp`).

    `interleave` is the number of pipeline stages that each process of `pp` has. `replicate` is the number of copies of
    the weights among the processes of `dp`, each of which is split over as many of them.
    """

    dp: Whole = 1
    tp: Whole = 1
    pp: Whole = 1
    interleave: Whole = 1
    replicate: Whole = 1

    def __post_init__(self) -> None:
        if self.interleave > 1 and self.pp == 1:
            raise ValueError("interleave needs pipeline stages: give pp at least 2, or leave interleave out")
        if self.dp % self.replicate:
            raise ValueError(f"replicate must divide dp: {self.replicate} copies can't be split over {self.dp} evenly")

    @property
    def num_processes(self) -> int:
        """All of them."""
        return self.dp * self.tp * self.pp

    @property
    def num_stages(self) -> int:
        """Pipeline stages, of all processes."""
        return self.pp * self.interleave

    @property
    def shards(self) -> int:
        """The processes of `dp` that one copy of the weights is split over."""
        return self.dp // self.replicate


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Adapters that learn in place of all weights, beside the linear layers in `targets`; none named: beside all.

    `base`: hold the linear layers' own weights in 8 or 4 bits.
    """

    rank: Whole = 16
    alpha: Positive = 32
    dropout: Annotated[float, Bound(least=0, most=0.9)] = 0
    targets: tuple[str, ...] = ()
    base: Bits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Held-out prompts that are scored during training, after every so many train steps of a stage, by `balanced` with
    this first chunk. The best checkpoint of a stage is the one that is kept; after `patience` scores without a better
    one the stage ends."""

    every: Whole
    prompts: Whole = 8
    first_chunk: Whole = 16
    layout: TrainedLayout = "rounds"
    patience: Whole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A whole run. `cut_tokens` cuts every text, as an evaluation of retention does; 0: never.

    Without `lora` all weights learn. `offload: optimizer` keeps the optimizer's moments, and its work, on the CPU
    beside a GPU; `parameters` weights and gradients too, and gives a GPU those of a layer when it computes.
    `precision: auto` is bfloat16, or float32 on a CPU that has no instructions for it.
    """

    model: str
    output: str
    stages: tuple[Stage, ...]
    data: str = field(default_factory=lambda: str(find_data(ALPACA_EVAL)))
    proposers: tuple[str, ...] = PROPOSERS
    reference: str = REFERENCE
    held_out: Annotated[int, Bound(least=0)] = 60
    cut_tokens: Annotated[int, Bound(least=0)] = 256
    shuffle: Whole = 1024
    seed: Annotated[int, Bound(least=0)] = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    memory: Memory = _AUTO
    optimizer: Optimizer = "adamw"
    offload: Offload | None = None
    compile: bool = False
    save_every: SaveEvery = _TEN_MINUTES
    keep: Whole = 2
    parallel: Parallel = Parallel()
    lora: Lora | None = None
    retention: Held | None = None

    @property
    def computes_in(self) -> Precision:
        """The precision, after `auto` has become one (precision.py)."""
        assert self.precision != "auto"
        return self.precision

    @property
    def inserts(self) -> bool:
        """Whether some sequences grow in their middle."""
        is_scored = self.retention is not None and self.retention.layout == "insert"
        return is_scored or any(stage.layouts.shares.get("insert") for stage in self.stages)

    @property
    def folder(self) -> Path:
        """The folder for everything that the run makes."""
        return Path(self.output).expanduser()


def read_train_config(raw: object, file: str) -> TrainConfig:
    """A run from the plain values of a file. Raises ConfigError that names the key."""
    where = Where(file=file)
    config = read(TrainConfig, raw, where)
    if not config.stages:
        raise (where / "stages").error("needs at least one stage")
    if not config.proposers:
        raise (where / "proposers").error("needs at least one name")
    for number, name in enumerate(config.proposers):
        if name in config.proposers[:number]:
            raise (where / "proposers" / number).error(f"{show(name)} is there twice")
        if name == config.reference:
            raise (where / "proposers" / number).error(f"{show(name)} is the reference, which is learned, not read")
    names = [stage.name for stage in config.stages]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise (where / "stages" / number / "name").error(f"{show(name)} is there twice")
    if config.compile and config.parallel.tp > 1:  # PyTorch 2.13 can't trace its split tensors for rows of any length
        raise (where / "compile").error("does not work with layers that tp splits; leave it out, or parallel.tp")
    if config.optimizer == "adamw8bit" and config.parallel.num_processes > 1:
        raise (where / "optimizer").error("adamw8bit works in one process; leave parallel out, or take adamw")
    if config.offload is not None and config.optimizer != "adamw":
        raise (where / "offload").error(f"works with adamw; leave it out, or {config.optimizer}")
    if config.offload == "optimizer" and config.parallel.num_processes > 1:
        raise (where / "offload").error("works in one process; leave it out, or parallel, which shares moments too")
    if config.offload == "parameters" and config.parallel.pp > 1:
        raise (where / "offload").error("pipeline stages need all their weights at a time; let parallel.pp be 1")
    if config.offload == "parameters" and config.lora is not None and config.lora.base is not None:
        raise (where / "offload").error("a base in bits is no parameter; leave lora.base out, or take optimizer")
    if config.retention is not None and config.parallel.pp > 1:
        raise (where / "retention").error("does not work with pipeline stages yet; let parallel.pp be 1")
    if config.retention is not None and not config.held_out:
        raise (where / "retention").error("needs prompts that are held out: give held_out a number above 0")
    for number, stage in enumerate(config.stages):
        _check_teacher(config, stage, where / "stages" / number)
        if stage.num_rows % config.parallel.dp:
            raise (where / "stages" / number / "batch_tokens").error(
                f"makes {stage.num_rows} rows of {stage.sequence_tokens} tokens, which {config.parallel.dp} processes "
                "(parallel.dp) can't share evenly"
            )
        _check_interleaved(config.parallel, stage, where / "stages" / number)
    return config


def _check_interleaved(parallel: Parallel, stage: Stage, where: Where) -> None:
    """Raise ConfigError for rows that don't pass through interleaved stages in rounds."""
    rows = stage.num_rows // parallel.dp
    if parallel.interleave > 1 and rows % parallel.pp:
        raise (where / "batch_tokens").error(
            f"makes {rows} rows for each process of parallel.dp; with parallel.interleave their number must be a "
            f"multiple of parallel.pp ({parallel.pp})"
        )


def _check_teacher(config: TrainConfig, stage: Stage, where: Where) -> None:
    """Raise ConfigError for a teacher in an arrangement that has none."""
    if stage.distill and config.parallel.pp > 1:
        raise (where / "distill").error("does not work with pipeline stages yet; let parallel.pp be 1")
    if stage.on_policy and (config.parallel.num_processes > 1 or config.offload == "parameters"):
        raise (where / "on_policy").error(
            "works in one process that holds its parameters; leave parallel and offload: parameters out"
        )


def load_train_config(file: Path) -> TrainConfig:
    """A run from a YAML file. Raises ConfigError."""
    return read_train_config(load_yaml(file), str(file))
