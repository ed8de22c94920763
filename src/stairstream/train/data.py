"""Recorded answers as a stream of packed rows: the same on every rank, which can be continued from any row.

Every process lays out every row and computes its share of them, so that what is learned at a train step does not depend
on how many processes there are.
"""

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from stairstream.backends.in_process.tokens import Tokens
from stairstream.core.errors import ConfigError
from stairstream.eval.recorded import RecordedPrompt, check_outputs, iterate_rows
from stairstream.eval.retention.spelled import spell
from stairstream.train.config import Stage, TrainConfig
from stairstream.train.drawing import Reading, draw_reading
from stairstream.train.samples import Draft, Recorded, lay_out
from stairstream.train.sequences import Sample, Teaching


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """The cursor at which a stage's stream continues: a pass over the prompts, a prompt of it, and one
    of that prompt's sequences."""

    epoch: int = 0
    prompt: int = 0
    part: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A sample, whose it is and how it reads; `cursor` is its own, `draft` what the network writes instead."""

    sample: Sample
    prompt_id: str
    reading: Reading
    cursor: Cursor
    draft: Draft | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Samples that share one sequence and do not see each other. Instead of those that have a draft, by their
    number, comes what the network writes."""

    samples: tuple[Sample, ...]
    drafts: Mapping[int, Draft] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Of all samples."""
        return sum(len(sample.ids) for sample in self.samples)

    @property
    def num_taught(self) -> int:
        """Tokens that a teacher reads."""
        return sum(len(sample.teaching.ids) for sample in self.samples if sample.teaching)

    @property
    def num_trained(self) -> int:
        """Tokens that are learned and have one before them."""
        return sum(len(sample.learned) for sample in self.samples)

    def fill(self, count: int, taught: int = 0) -> "Row":
        """With so many tokens more, and more for a teacher, that see nobody else and teach nothing."""
        if not count and not taught:
            return self
        teaching = Teaching(ids=(0,) * taught, before=()) if self.num_taught else None
        rest = Sample(ids=(0,) * count, is_trained=(False,) * count, teaching=teaching)
        return replace(self, samples=(*self.samples, rest))

    def make_divisible(self, by: int) -> "Row":
        """Filled up so that so many ranks can have as many of its tokens each, and of those that a teacher reads."""
        if by == 1:
            return self
        count, taught = -self.num_tokens % by, -len(self.lay_teachings()[0]) % by if self.num_taught else 0
        return self.fill(count or (by if taught else 0), taught)

    def lay(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Ids and positions of all tokens; the indices before learned tokens, and these tokens."""
        ids, positions, kept, targets = list[int](), list[int](), list[int](), list[int]()
        for sample in self.samples:
            start = len(ids)
            ids += sample.ids
            positions += sample.positions
            for index, target in sample.learned:
                kept.append(start + index)
                targets.append(target)
        return ids, positions, kept, targets

    def lay_teachings(self) -> tuple[list[int], list[int], list[int]]:
        """Ids and positions of all tokens that a teacher reads; the indices before those that are learned."""
        ids, positions, kept = list[int](), list[int](), list[int]()
        for sample in self.samples:
            teaching = sample.teaching or Teaching(ids=sample.ids, before=())
            assert len(teaching.before) == len(sample.learned)
            kept += (len(ids) + index for index in teaching.before)
            ids += teaching.ids
            positions += range(len(teaching.ids))
        return ids, positions, kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The rows of a train step over all ranks, and where the stream continues after them."""

    rows: tuple[Row, ...]
    after: Cursor

    @property
    def num_tokens(self) -> int:
        """Of all rows."""
        return sum(row.num_tokens for row in self.rows)

    @property
    def num_trained(self) -> int:
        """Of all rows."""
        return sum(row.num_trained for row in self.rows)


EMPTY_ROW = Row(samples=(Sample(ids=(0,), is_trained=(False,)),))
"""Fills up the last step of a stage, so that every process has as many rows as every other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The prompts of a file by what they are for."""

    trained: frozenset[str]
    held_out: frozenset[str]


def split_prompts(config: TrainConfig) -> Split:
    """Those with the smallest digests of their ids are held out: the same ones whatever is added, as far as can be.

    Raises ConfigError if the file can't be used or nothing is left to train on.
    """
    file, ids = Path(config.data), list[str]()
    for number, row in enumerate(iterate_rows(file, RecordedPrompt), 1):
        check_outputs(row, (*config.proposers, config.reference), f"{file}, prompt {number}")
        ids.append(row.id)
    ordered = sorted(set(ids), key=lambda one: hashlib.sha256(one.encode()).digest())
    if len(ordered) < len(ids):
        raise ConfigError(f"{file}: some ids are there twice; prompts are held out by their ids")
    if len(ordered) <= config.held_out:
        raise ConfigError(f"{file} has {len(ordered)} prompts and {config.held_out} are held out; nothing is left")
    return Split(trained=frozenset(ordered[config.held_out :]), held_out=frozenset(ordered[: config.held_out]))


def write_held_out(config: TrainConfig, split: Split) -> Path:
    """The prompts that are never trained on, as a file that evaluations read; returns which."""
    rows = (row for row in iterate_rows(Path(config.data), RecordedPrompt) if row.id in split.held_out)
    file = config.folder / "held_out.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return file


class Stream:
    """The samples, rows and batches of one stage."""

    def __init__(self, config: TrainConfig, stage: Stage, split: Split, tokens: Tokens) -> None:
        self._config = config
        self._stage = stage
        self._split = split
        self._tokens = tokens
        self._epochs = stage.epochs

    def progress(self, cursor: Cursor, steps: int) -> float:
        """The share of the stage that is done at a cursor, after this number of steps: 0 to 1."""
        if self._stage.steps is not None:
            return min(1.0, steps / self._stage.steps)
        assert self._epochs is not None
        return min(1.0, (cursor.epoch + cursor.prompt / len(self._split.trained)) / self._epochs)

    def batches(self, cursor: Cursor) -> Iterator[Batch]:
        """Train steps from a cursor on, without end where the stage counts steps."""
        rows: list[Row] = []
        after = cursor
        for row, after in pack(self.samples(cursor), self._stage.sequence_tokens):
            rows.append(row)
            if len(rows) == self._stage.num_rows:
                yield Batch(rows=tuple(rows), after=after)
                rows = []
        if rows:
            yield Batch(rows=(*rows, *[EMPTY_ROW] * (self._stage.num_rows - len(rows))), after=after)

    def samples(self, cursor: Cursor) -> Iterator[Drawn]:
        """Samples from a cursor on, cut where they are longer than a row; what then has nothing to learn is left out.

        Raises ConfigError after a pass that has left out everything: a stage that counts steps would never end.
        """
        while self._epochs is None or cursor.epoch < self._epochs:
            is_empty = cursor == Cursor(epoch=cursor.epoch)
            for drawn in self._draw_pass(cursor):
                is_empty = False
                yield drawn
            if is_empty:
                raise ConfigError(
                    f"stage {self._stage.name!r}: no sample has a word to learn within sequence_tokens "
                    f"({self._stage.sequence_tokens}); give it more"
                )
            cursor = Cursor(epoch=cursor.epoch + 1)

    def _draw_pass(self, cursor: Cursor) -> Iterator[Drawn]:
        """The rest of a pass over the prompts."""
        for number, prompt in enumerate(self._shuffled(cursor.epoch)):
            if self._epochs is not None and cursor.epoch + number / len(self._split.trained) >= self._epochs:
                return
            if number >= cursor.prompt:
                first = cursor.part if number == cursor.prompt else 0
                yield from self._draw(prompt, Cursor(epoch=cursor.epoch, prompt=number), first)

    def _draw(self, prompt: RecordedPrompt, cursor: Cursor, first_part: int) -> Iterator[Drawn]:
        dice = random.Random(f"{self._config.seed}/{self._stage.name}/{cursor.epoch}/{prompt.id}")
        reading = draw_reading(self._stage, dice)
        stage, tokens = self._stage, self._tokens
        recorded = record(self._config, tokens, prompt, stage.cut_tokens)
        draft = None
        if stage.on_policy and reading.layout == "rounds":
            own = random.Random(f"{self._config.seed}/{stage.name}/{cursor.epoch}/{prompt.id}/own")
            draft = Draft(recorded=recorded, reading=reading) if own.random() < stage.on_policy else None
        for part, sample in enumerate(
            lay_out(tokens, recorded, reading, stage.updates, dice, taught=stage.distill > 0)
        ):
            short = sample.cut(stage.sequence_tokens)
            if part >= first_part and short.learned:
                where = Cursor(epoch=cursor.epoch, prompt=cursor.prompt, part=part)
                yield Drawn(sample=short, prompt_id=prompt.id, reading=reading, cursor=where, draft=draft)

    def _shuffled(self, epoch: int) -> Iterator[RecordedPrompt]:
        """The trained prompts in an order of their own in every epoch; only `shuffle` of them are in memory."""
        dice = random.Random(f"{self._config.seed}/{self._stage.name}/{epoch}")
        held: list[RecordedPrompt] = []
        for prompt in iterate_rows(Path(self._config.data), RecordedPrompt):
            if prompt.id not in self._split.trained:
                continue
            held.append(prompt)
            if len(held) >= self._config.shuffle:
                yield held.pop(dice.randrange(len(held)))
        dice.shuffle(held)
        yield from held


def record(config: TrainConfig, tokens: Tokens, prompt: RecordedPrompt, cut_tokens: int | None = None) -> Recorded:
    """A prompt in the model's tokens, cut as its stage says, or else the configuration."""
    most = (config.cut_tokens if cut_tokens is None else cut_tokens) or None
    answer = spell(tokens, prompt.outputs[config.reference], most)
    return Recorded(
        asked=prompt.instruction,
        proposals={name: spell(tokens, prompt.outputs[name], most) for name in config.proposers},
        answer=answer,
        ends=answer.text == prompt.outputs[config.reference],
    )


def pack(drawn: Iterable[Drawn], row_tokens: int) -> Iterator[tuple[Row, Cursor]]:
    """Samples in rows as they come; each row with the cursor where the next begins."""
    held, size, cursor = list[Drawn](), 0, Cursor()
    for one in drawn:
        if held and size + len(one.sample.ids) > row_tokens:
            yield _make_row(held), one.cursor
            held, size = [], 0
        held.append(one)
        size += len(one.sample.ids)
        cursor = one.cursor
    if held:
        yield _make_row(held), Cursor(epoch=cursor.epoch, prompt=cursor.prompt + 1)


def _make_row(held: Sequence[Drawn]) -> Row:
    drafts = {number: one.draft for number, one in enumerate(held) if one.draft is not None}
    return Row(samples=tuple(one.sample for one in held), drafts=drafts)
