"""The reading of a sample: a policy and a layout, drawn by chance from what a stage allows."""

import math
import random
from dataclasses import dataclass, replace

from stairstream.core.policy import PRESETS, Policy
from stairstream.train.config import Span, Stage, TrainedLayout

_BASE = PRESETS["balanced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The way in which one answer reads its references; without a policy it reads none."""

    policy: Policy | None
    layout: TrainedLayout


def draw_reading(stage: Stage, dice: random.Random) -> Reading:
    """One of the readings of a stage. It throws the dice equally often whatever comes of it."""
    share = dice.random()
    layout = dice.choices(list(stage.layouts.shares), list(stage.layouts.shares.values()))[0]
    policy = replace(
        _BASE,
        first_chunk=_draw_size(stage.first_chunk, dice),
        growth=_draw(stage.growth, dice),
        lead=_draw(stage.lead, dice),
        slope=_draw(stage.slope, dice),
    )
    if share < stage.wait:
        return Reading(policy=PRESETS["wait"], layout="grouped")
    if share < stage.wait + stage.alone:
        return Reading(policy=None, layout="grouped")
    return Reading(policy=policy, layout=layout)


def _draw(span: Span, dice: random.Random) -> float:
    chance = dice.random()
    return span.low if span.low == span.high else round(span.low + chance * (span.high - span.low), 3)


def _draw_size(span: Span, dice: random.Random) -> int:
    """A whole number, as often between 8 and 16 as between 16 and 32."""
    low, high = math.log(math.ceil(span.low)), math.log(math.floor(span.high))
    return round(math.exp(low + dice.random() * max(0.0, high - low)))
