"""Deliberate bugs, one line each: `stairstream prove` finds every one of them, and so does an ordinary test."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A line of a module, and what it becomes. `seed` is the first that finds it, `test` an ordinary test that does."""

    name: str
    module: str
    old: str
    new: str
    seed: int = -1
    test: str = ""


BUGS = (
    Bug(
        name="a chunk begins one delta early",
        module="stairstream.engine.reader",
        old="log.chunk(self._positions[i], end,",
        new="log.chunk(max(0, self._positions[i] - 1), end,",
        seed=3,
        test="tests/engine/test_prefetch.py::test_the_answer_is_the_same_and_its_gaps_are_shorter[one by one]",
    ),
    Bug(
        name="the last character twice at a failover",
        module="stairstream.engine.agent",
        old="self._agent.begun + self._output.written)",
        new="self._agent.begun + self._output.written[:-1])",
        seed=46,
        test="tests/engine/test_failover.py::test_a_fallback_is_told_exactly_the_words_so_far[fallbacks0]",
    ),
    Bug(
        name="the quorum is one less",
        module="stairstream.core.decisions",
        old="quorum=min(quorum_of(policy, len(upstream)), present",
        new="quorum=min(max(1, quorum_of(policy, len(upstream)) - 1), present",
        seed=0,
        test="tests/core/test_decisions.py::test_patience_counts_from_the_quorum",
    ),
    Bug(
        name="an upstream that joins late is lost",
        module="stairstream.engine.reader",
        old="if end > self._positions[i] or (is_final and not one.end_is_read):",
        new="if (end > self._positions[i] and bool(self._positions[i]) >= any(self._positions)) or is_final:",
        seed=3,
        test="tests/engine/test_reading.py::test_thoughts_are_forwarded_where_that_is_asked_for",
    ),
    Bug(
        name="permits go to those downstream first",
        module="stairstream.backends.limits",
        old="heapq.heappush(self._waiting, (rank, next(self._serial), turn))",
        new="heapq.heappush(self._waiting, (-rank, next(self._serial), turn))",
        seed=6,
        test="tests/backends/test_limits.py::test_permits_are_served_by_rank_and_survive_a_leaver[one by one]",
    ),
    Bug(
        name="the least step is one power short",
        module="stairstream.core.decisions",
        old="least = chunk_of(policy, own.steps - 1)",
        new="least = chunk_of(policy, own.steps - 2)",
        seed=76,
        test="tests/core/test_decisions.py::test_a_step_under_way_is_ended_only_after_its_least_unless_the_update_completes",
    ),
    Bug(
        name="who was dropped is not said",
        module="stairstream.engine.ending",
        old='found.append(f"{name} was dropped: {end.error}")',
        new="pass",
        seed=5,
        test="tests/engine/test_degraded.py::test_who_gave_nothing_or_broke_off_is_named[graph0-scripts0-expected0]",
    ),
    Bug(
        name="failed tries are counted twice",
        module="stairstream.engine.step",
        old="return ended.usage + self.spent",
        new="return ended.usage + self.spent + self.spent",
        seed=15,
        test="tests/engine/test_spent.py::test_tries_that_fail_for_good_are_in_the_usage[empty]",
    ),
    Bug(
        name="an upstream without a reader writes on",
        module="stairstream.engine.agents",
        old='self._cancel(name, "cancelled")',
        new="pass",
        seed=0,
        test="tests/engine/test_failures.py::test_hanging_proposer_holds_only_who_waits_for_every_end",
    ),
    Bug(
        name="all but the end of a stop string is shown",
        module="stairstream.core.stops",
        old="num_open = self._automaton.depths[self._state]",
        new="num_open = self._automaton.depths[self._state] * (self._automaton.depths[self._state] < len("
        "self._automaton._stops[self._state][0]) - 1)",
        seed=22,
        test="tests/core/test_stops.py::test_single_characters_stop_at_the_first_stop_string",
    ),
    Bug(
        name="the deadline comes late",
        module="stairstream.engine.run",
        old="self._loop.call_at(self._start + self._limits.deadline_s,",
        new="self._loop.call_at(self._start + self._limits.deadline_s + 1,",
        seed=2,
        test="tests/engine/test_failures.py::test_run_deadline_ends_it_with_what_it_has[one by one]",
    ),
    Bug(
        name="the first token is awaited for ever",
        module="stairstream.engine.writer",
        old="silence.allow(agent.first_token_s)",
        new="silence.allow(None)",
        seed=0,
        test="tests/engine/test_failures.py::test_first_token_and_gap_deadlines_count_as_failures[one by one]",
    ),
    Bug(
        name="an error is read as text",
        module="stairstream.engine.agents",
        old="        self._outputs[agent.name].close()\n",
        new="        error and self._outputs[agent.name].append(Note and __import__('stairstream.core.session', "
        "fromlist=['Delta']).Delta(error), 0.0)\n        self._outputs[agent.name].close()\n",
        seed=0,
        test="tests/engine/test_degraded.py::test_who_gave_nothing_or_broke_off_is_named[graph0-scripts0-expected0]",
    ),
    Bug(
        name="a session stays open",
        module="stairstream.engine.agent",
        old="            await session.aclose()\n",
        new="            pass\n",
        seed=0,
        test="tests/engine/test_staircase.py::test_proposers_nobody_reads_any_more_are_cancelled[one by one]",
    ),
    Bug(
        name="a timer outlives its wait",
        module="stairstream.engine.alarm",
        old="        self._ring = None\n        self._set_timer(math.inf)\n",
        new="        self._ring = None\n",
        seed=211,
        test="tests/engine/test_leaving.py::test_no_timer_outlives_a_run_that_is_left[paper]",
    ),
    Bug(
        name="patience begins anew at every look",
        module="stairstream.core.decisions",
        old="(now if own.quorum_since is None else own.quorum_since) + policy.patience_s",
        new="now + policy.patience_s",
        seed=18,
        test="tests/core/test_decisions.py::test_patience_counts_from_the_quorum",
    ),
    Bug(
        name="a fallback does not read again",
        module="stairstream.engine.progress",
        old="        self._reader.rewind()\n",
        new="",
        seed=9,
        test="tests/engine/test_failover.py::test_a_fallback_is_shown_all_that_was_read_before_it[fallbacks0]",
    ),
    Bug(
        name="a call is made again after its first word",
        module="stairstream.backends.retry",
        old="if has_begun or not exc.is_retryable or is_last:",
        new="if not exc.is_retryable or is_last:",
        seed=50,
        test="tests/engine/test_asked.py::test_a_retry_is_for_calls_that_had_not_begun[one by one]",
    ),
    Bug(
        name="the call that lost a race is free",
        module="stairstream.backends.hedge",
        old="usage=loser.spent())",
        new="usage=None)",
        seed=29,
        test="tests/backends/test_hedge.py::test_second_try_wins_when_the_first_token_is_late[one by one]",
    ),
    Bug(
        name="one token more than the lead allows",
        module="stairstream.core.decisions",
        old="round(policy.lead + policy.slope * slowest, 6)",
        new="round(policy.lead + policy.slope * slowest + 1, 6)",
        seed=3,
        test="tests/core/test_decisions.py::test_lead_limits_by_the_slowest_counted_upstream",
    ),
    Bug(
        name="a slow client misses what comes while it reads",
        module="stairstream.engine.event_log",
        old="                position += len(batch)\n                yield batch\n",
        new="                yield batch\n                position = len(self.events)\n",
        seed=1,
        test="tests/engine/test_slow_readers.py::test_a_reader_that_is_slow_gets_every_event_once[0.1]",
    ),
    Bug(
        name="who only thinks never leaves",
        module="stairstream.core.decisions",
        old="return math.inf if policy.first_chunk == math.inf else policy.patience_s",
        new="return math.inf",
        seed=14,
        test="tests/core/test_decisions.py::test_an_upstream_leaves_only_while_there_is_something_to_read",
    ),
    Bug(
        name="who was waited for is waited for again",
        module="stairstream.core.decisions",
        old="sum([own.steps == 0 or one.num_written > one.num_read for one in missing])",
        new="len(missing)",
        seed=91,
        test="tests/core/test_decisions.py::test_patience_is_for_who_moves",
    ),
    Bug(
        name="queued words are lost at the end",
        module="stairstream.engine.pace",
        old="        while self._waiting:\n            self._let_go(now)\n        self._pass_on(now)\n",
        new="        self._waiting.clear()\n        self._pass_on(now)\n",
        seed=305,
        test="tests/engine/test_pace.py::"
        "test_what_is_queued_is_shown_at_once_when_the_answer_breaks_off[one by one-deadline]",
    ),
    Bug(
        name="the last word of the queue is shown first",
        module="stairstream.engine.pace",
        old="event = self._waiting.popleft()",
        new="event = self._waiting.pop()",
        seed=10,
        test="tests/engine/test_pace.py::test_a_little_of_the_first_token_buys_an_answer_without_gaps",
    ),
    Bug(
        name="the first word is delayed by the pace",
        module="stairstream.engine.pace",
        old="self._last = (now + self._hold_s, 0)",
        new="self._last = (now + self._hold_s + 0.25, 0)",
        seed=10,
        test="tests/engine/test_pace.py::test_a_little_of_the_first_token_buys_an_answer_without_gaps",
    ),
    Bug(
        name="slots are kept by a run that leaves as its turn comes",
        module="stairstream.backends.slots",
        old="self._give_back(num)  # its turn came",
        new="pass  # its turn came",
    ),
    Bug(
        name="a run that leaves the queue holds up those behind it",
        module="stairstream.backends.slots",
        old="self._grant()  # those that wait",
        new="pass  # those that wait",
    ),
    Bug(
        name="a run that needs few slots passes those that wait",
        module="stairstream.backends.slots",
        old="if not self._waiting and num <=",
        new="if num <=",
    ),
    Bug(
        name="one slot more than there are",
        module="stairstream.backends.slots",
        old="self._num_unreserved += num",
        new="self._num_unreserved += num + bool(self._waiting)",
    ),
    Bug(
        name="a permit is kept by a call that leaves as its turn comes",
        module="stairstream.backends.limits",
        old="self.give_back()  # it was this one's turn",
        new="pass  # it was this one's turn",
    ),
    Bug(
        name="a permit is given twice",
        module="stairstream.backends.limits",
        old="                self.take_nowait()\n",
        new="                pass\n",
    ),
    Bug(
        name="a step that had ended is made again",
        module="stairstream.engine.progress",
        old="is_rewound=past.is_rewound)",
        new="is_rewound=True)",
    ),
    Bug(
        name="calls that were lost cost nothing",
        module="stairstream.engine.resuming",
        old="completion_tokens=completion_tokens,",
        new="completion_tokens=0,",
    ),
    Bug(
        name="words are shown before they are kept",
        module="stairstream.engine.write_ahead",
        old="            self._journal.write(entry)\n",
        new="            self._log.append(entry.event)\n            self._journal.write(entry)\n",
    ),
    Bug(
        name="paced words are put back twice",
        module="stairstream.core.journal",
        old="return bool(self.text) or not isinstance(self.event, Wrote | Thought)",
        new="return self.is_shown",
    ),
    Bug(
        name="the last journalled word is repeated at a takeover",
        module="stairstream.engine.output",
        old="self._write(Delta(text, event.num_tokens, is_estimate=event.is_estimate), at_s)",
        new="self._write(Delta(text + text[-1:], event.num_tokens, is_estimate=event.is_estimate), at_s)",
    ),
    Bug(
        name="a call that gains nothing is made anyway",
        module="stairstream.core.worth",
        old="return own if gains else replace(",
        new="return own if gains else own or replace(",
    ),
    Bug(
        name="a first call is cut though it would soon speak",
        module="stairstream.core.worth",
        old="if now <= speaks_s <= latest_s < math.inf else own",
        new="if now <= speaks_s <= latest_s < -math.inf else own",
    ),
)
