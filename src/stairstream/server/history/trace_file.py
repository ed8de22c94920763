"""A run as a trace that Perfetto and Chrome load: a track for each agent, a slice for each step, arrows for reads.

The format is Chrome's JSON of trace events; times are whole microseconds since the run began.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from stairstream.core.events import (
    AgentEnded,
    Called,
    Event,
    LayoutChosen,
    Noted,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    Thought,
    Wrote,
    as_written,
)
from stairstream.server.history.wire import TraceOut
from stairstream.server.storage.values import PastRun
from stairstream.server.wire.events import decode_event_json

Json = dict[str, Any]
_PROCESS = 1


def make_trace_file(past: PastRun) -> bytes:
    """The whole file."""
    told = [decode_event_json(line) for line in past.events.splitlines()]
    events = list(make_trace_events(told, f"{past.pipeline}: {past.question}"))
    other = {"run": past.id, "pipeline": past.pipeline, "model": past.model, "ended": past.reason}
    return msgspec.json.encode(TraceOut(traceEvents=msgspec.Raw(msgspec.json.encode(events)), otherData=other))


@dataclass(slots=True, kw_only=True)
class _Step:
    """A step in flight, and its text so far."""

    started: StepStarted
    text: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Track:
    """One agent: its written characters over time, and its open step."""

    number: int
    times_s: list[float] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    first_s: float | None = None
    step: _Step | None = None


def make_trace_events(told: Sequence[tuple[Event, str]], title: str) -> Iterator[Json]:
    """Trace events of a run that is over; `told` are its events with their texts."""
    started, _ = told[0]
    assert isinstance(started, RunStarted)
    order = (started.answer, *(name for name in started.agents if name != started.answer))
    tracks = {name: _Track(number) for number, name in enumerate(order, 1)}
    yield from _name_tracks(tracks, title)
    tokens: Counter[str] = Counter({name: 0 for name in order})
    serial = count(1)
    texts = {_key_of(event): text for event, text in told if isinstance(event, Wrote | Thought)}
    for event in as_written([event for event, _ in told]):
        if isinstance(event, RunStarted | RunEnded):
            continue
        text = texts[_key_of(event)] if isinstance(event, Wrote | Thought) else ""
        yield from _trace(event, text, event.agent, tracks, serial)
        if isinstance(event, Wrote | Thought | Called) and event.num_tokens:
            tokens[event.agent] += event.num_tokens
            yield _event("C", "tokens", event.at_s, 0, args=dict(tokens))


def _key_of(event: Wrote | Thought) -> tuple[type, str, int, int]:
    return type(event), event.agent, event.start, event.end


def _name_tracks(tracks: dict[str, _Track], title: str) -> Iterator[Json]:
    yield {"ph": "M", "pid": _PROCESS, "tid": 0, "name": "process_name", "args": {"name": title}}
    for name, track in tracks.items():
        at = {"ph": "M", "pid": _PROCESS, "tid": track.number}
        yield {**at, "name": "thread_name", "args": {"name": name}}
        yield {**at, "name": "thread_sort_index", "args": {"sort_index": track.number}}


def _trace(event: Event, text: str, agent: str, tracks: dict[str, _Track], serial: Iterator[int]) -> Iterator[Json]:
    """Trace events for one event of an agent."""
    track = tracks[agent]
    match event:
        case StepStarted():
            track.step = _Step(started=event)
            if event.step:
                yield _instant(f"update {event.step}", event.at_s, track)
            for reading in event.readings:
                if reading.end > reading.start:
                    yield from _draw_arrow(tracks[reading.agent], reading.end, event.at_s, track, next(serial))
        case Wrote() | Called():
            if track.first_s is None:
                track.first_s = event.at_s
                yield _instant("first token", event.at_s, track)
            if isinstance(event, Wrote):
                track.times_s.append(event.at_s)
                track.ends.append(event.end)
                if track.step is not None:
                    track.step.text.append(text)
        case StepEnded():
            yield from _end_step(track, event.at_s, event)
        case AgentEnded():
            yield from _end_step(track, event.at_s, None)
            args = {"reason": event.reason, **({"error": event.error} if event.error else {})}
            yield _instant(f"ended: {event.reason}", event.at_s, track, args)
        case Noted(note=note):
            yield _instant(note.kind, event.at_s, track, {"text": note.text})
        case LayoutChosen():
            yield _instant(f"layout: {event.layout}", event.at_s, track, {"why": event.why})
        case _:
            pass


def _end_step(track: _Track, at_s: float, ended: StepEnded | None) -> Iterator[Json]:
    """The slice of the open step; a step cut off by the end of its agent has no usage."""
    if track.step is None:
        return
    started, text = track.step.started, "".join(track.step.text)
    track.step = None
    args: Json = {"text": text, "limit": started.limit, "read": _list_readings(started)}
    if ended is not None:
        args |= {"reason": ended.reason, "usage": msgspec.to_builtins(ended.usage)}
    name = f"update {started.step}" if started.step else "first step"
    start_us = _us(started.at_s)
    yield _event("X", name, started.at_s, track.number, dur=_us(at_s) - start_us, cat="step", args=args)


def _list_readings(started: StepStarted) -> Json:
    return {
        reading.agent: {
            "new_characters": reading.end - reading.start,
            "characters": reading.end,
            "all": reading.is_final,
        }
        for reading in started.readings
    }


def _draw_arrow(upstream: _Track, end: int, at_s: float, track: _Track, number: int) -> Iterator[Json]:
    """An arrow from the time at which the last character read was written, to the step that read it."""
    position = min(bisect_left(upstream.ends, end), len(upstream.ends) - 1)
    if position >= 0:
        arrow = {"cat": "read", "id": number}
        yield _event("s", "read", upstream.times_s[position], upstream.number, **arrow)
        yield _event("f", "read", at_s, track.number, bp="e", **arrow)


def _instant(name: str, at_s: float, track: _Track, args: Json | None = None) -> Json:
    return _event("i", name, at_s, track.number, s="t", **({"args": args} if args else {}))


def _event(kind: str, name: str, at_s: float, thread: int, **more: Any) -> Json:
    return {"ph": kind, "name": name, "ts": _us(at_s), "pid": _PROCESS, "tid": thread, **more}


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
