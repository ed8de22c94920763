"""Lifetime and ownership of runs, in virtual time."""

import asyncio
import gc
import weakref

import pytest

from stairstream.core.events import RunEnded, RunStarted
from stairstream.engine.run import Run
from stairstream.server.access.gate import Caller
from stairstream.server.errors import ApiError
from stairstream.server.runs.finished import Finished
from stairstream.server.storage.values import RunUsage
from stairstream.sim.clock import run
from tests.server.living import ANN, BOB, LENGTH, WHOLE_S, Admission, events_of, now, served


def test_a_run_is_over_and_forgotten_when_its_client_has_the_answer() -> None:
    async def main() -> None:
        async with served() as server:
            admission = Admission()
            async with server.open(admission=admission) as one:
                events = await events_of(one)
                assert server.live.find(ANN, one.id).run is one
            assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"
            assert now() == WHOLE_S
            await asyncio.sleep(0.25)
            assert (admission.since_s, admission.until_s) == (0, WHOLE_S)
            assert [used.completion_tokens for used in admission.used] == [LENGTH]
            with pytest.raises(ApiError) as caught:
                server.live.find(ANN, one.id)
            assert caught.value.status == 404
            assert server.live.num_running == 0

    run(main())


def test_a_client_that_leaves_ends_its_run_at_once() -> None:
    async def main() -> None:
        async with served() as server:
            admission = Admission()
            async with server.open(admission=admission) as one:
                await asyncio.sleep(1)
                assert server.num_sessions == 1
            await one.wait_ended()
            await asyncio.sleep(0.25)
            assert (server.num_sessions, server.live.num_running) == (0, 0)
            assert admission.until_s == 1 and admission.used[0].completion_tokens == 3
            assert isinstance(one.past[-1], RunEnded) and one.past[-1].reason == "cancelled"

    run(main())


def test_the_run_of_a_client_that_has_left_is_freed_without_the_garbage_collector() -> None:
    async def main() -> bool:
        async with served() as server:

            async def ask(opened: list[weakref.ref[Run]]) -> None:
                async with server.open() as one:
                    opened.append(weakref.ref(one))
                    await asyncio.sleep(100)

            opened: list[weakref.ref[Run]] = []
            async with asyncio.TaskGroup() as clients:
                client = clients.create_task(ask(opened))
                await asyncio.sleep(1)
                client.cancel()
            del client
            await asyncio.sleep(0.25)
            return opened[0]() is None

    gc.disable()
    try:
        assert run(main())
    finally:
        gc.enable()


def test_a_client_that_leaves_at_once_leaves_a_whole_record(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with served() as server:
            admission = Admission()
            async with server.open(admission=admission) as one:
                pass
            await one.wait_ended()
            await asyncio.sleep(0.25)
            assert isinstance(one.past[0], RunStarted) and isinstance(one.past[-1], RunEnded)
            assert [used.completion_tokens for used in admission.used] == [0]
        assert not caplog.records

    run(main())


def test_a_run_that_is_kept_goes_on_and_can_be_read_until_its_time_is_up() -> None:
    async def main() -> None:
        async with served() as server:
            admission = Admission()
            async with server.open(keep_s=10, admission=admission) as one:
                await asyncio.sleep(1)
            await asyncio.sleep(6)
            assert admission.until_s == WHOLE_S  # its permit is free once it is over
            with server.live.attach(ANN, one.id) as again:
                assert len(await events_of(again.run)) == len(one.past)
                await asyncio.sleep(20)
            assert now() == 27
            await asyncio.sleep(9.75)
            assert server.live.find(ANN, one.id)
            await asyncio.sleep(0.5)
            with pytest.raises(ApiError):
                server.live.find(ANN, one.id)

    run(main())


def test_a_run_that_is_over_can_be_read_for_keep_s_from_its_end() -> None:
    async def main() -> None:
        async with served() as server:
            async with server.open(keep_s=5) as one:
                pass
            await asyncio.sleep(WHOLE_S + 4.75)
            assert server.live.find(ANN, one.id).run.is_over
            await asyncio.sleep(0.5)
            with pytest.raises(ApiError):
                server.live.find(ANN, one.id)

    run(main())


def test_a_run_whose_client_does_not_come_back_in_time_is_cancelled() -> None:
    async def main() -> None:
        async with served() as server:
            admission = Admission()
            async with server.open(keep_s=1, admission=admission) as one:
                await asyncio.sleep(1)
            await one.wait_ended()
            assert now() == 2
            assert isinstance(one.past[-1], RunEnded) and one.past[-1].reason == "cancelled"
            await asyncio.sleep(0.25)
            assert (admission.until_s, server.num_sessions, server.live.num_running) == (2, 0, 0)

    run(main())


def test_another_listener_keeps_a_run_alive() -> None:
    async def main() -> None:
        async with served() as server:
            async with server.open() as one:
                await asyncio.sleep(1)
                listening = server.live.attach(ANN, one.id)
                listening.__enter__()
            await asyncio.sleep(1)
            assert not one.is_over
            listening.__exit__(None, None, None)
            await one.wait_ended()
            assert now() == 2

    run(main())


def test_others_do_not_see_a_run() -> None:
    async def main() -> None:
        async with served() as server, server.open(keep_s=10) as one:
            for caller, run_id in ((BOB, one.id), (Caller(), one.id), (ANN, "no-such-run")):
                with pytest.raises(ApiError) as caught:
                    server.live.find(caller, run_id)
                assert (caught.value.status, caught.value.code) == (404, "run_not_found")
            assert server.live.find(ANN, one.id).run is one

    run(main())


def test_cancelling_a_run_gives_its_listeners_the_end() -> None:
    async def main() -> None:
        async with served() as server, server.open() as one:
            await asyncio.sleep(1)
            await server.live.cancel(server.live.find(ANN, one.id))
            events = await events_of(one)
            assert isinstance(events[-1], RunEnded) and events[-1].reason == "cancelled"
            assert now() == 1

    run(main())


@pytest.mark.parametrize("error", [ApiError(status=429, message="too many"), ZeroDivisionError("ours")])
def test_what_fails_before_a_run_goes_to_its_client_alone(error: Exception) -> None:
    async def main() -> None:
        async with served() as server, server.open() as other:
            with pytest.raises(type(error)):
                async with server.open(admission=Admission(error=error)):
                    pass
            assert len(await events_of(other)) > LENGTH

    run(main())


def test_what_fails_after_a_run_goes_to_its_client_alone() -> None:
    class Broken(Admission):
        def settle(self, used: RunUsage) -> None:
            raise ZeroDivisionError("ours")

    async def main() -> None:
        async with served() as server, server.open() as other:
            with pytest.raises(ZeroDivisionError):
                async with server.open(admission=Broken()) as one:
                    await events_of(one)
                    await asyncio.sleep(1)
            assert other.is_over

    run(main())


def test_a_client_that_leaves_while_it_waits_for_a_permit_gives_it_up() -> None:
    class Full(Admission):
        async def __aenter__(self) -> "Full":
            self.since_s = now()
            try:
                await asyncio.sleep(100)
            finally:
                self.until_s = now()
            return self

    async def main() -> None:
        async with served() as server:
            admission = Full()

            async def ask() -> None:
                async with server.open(admission=admission):
                    pass

            asking = asyncio.ensure_future(ask())
            await asyncio.sleep(1)
            asking.cancel()
            await asyncio.wait([asking])
            await asyncio.sleep(0.25)
            assert (admission.since_s, admission.until_s, server.live.num_running) == (0, 1, 0)

    run(main())


def test_stopping_ends_every_run_and_takes_no_more() -> None:
    async def main() -> None:
        async with served() as server:
            async with server.open(keep_s=100) as kept:
                await asyncio.sleep(1)
            async with server.open(keep_s=100) as over:
                await asyncio.sleep(20)
            assert over.is_over
            async with server.open(keep_s=100) as second:
                pass
        assert kept.is_over and second.is_over and now() == 21
        with pytest.raises(ApiError) as caught:
            async with server.open():
                pass
        assert caught.value.status == 503
        await asyncio.sleep(200)

    run(main())


def test_runs_that_the_server_cuts_off_say_so() -> None:
    told: list[Finished] = []

    async def main() -> None:
        async with served(observers=[told.append]) as server:
            async with server.open(keep_s=100) as over:
                await over.wait_ended()
            async with server.open(keep_s=100) as running:
                await asyncio.sleep(1)
            async with server.open(keep_s=100) as begun:
                pass
        text = "the server was shut down before the answer had ended"
        for one in (running, begun):
            assert one.past[-1] == RunEnded(at_s=one.past[-1].at_s, reason="shutdown", error=text)
        assert running.answer == "w1 w2 w3", "what was said stays"

    run(main())
    assert [one.answer.summary.reason for one in told] == ["stop", "shutdown", "shutdown"]
    assert [one.answer.summary.agents[0].reason for one in told] == ["stop", "shutdown", "shutdown"]


def test_of_too_many_runs_that_are_over_the_oldest_go() -> None:
    async def main() -> None:
        async with served(most_kept=2) as server:
            ids = []
            for _ in range(4):
                async with server.open(keep_s=1000) as one:
                    await events_of(one)
                await asyncio.sleep(1)
                ids.append(one.id)
            for run_id in ids[:2]:
                with pytest.raises(ApiError):
                    server.live.find(ANN, run_id)
            assert [server.live.find(ANN, run_id).run.id for run_id in ids[2:]] == ids[2:]

    run(main())


def test_a_client_that_leaves_in_the_moment_of_its_run_s_beginning_leaves_quietly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class SlowAdmission(Admission):
        async def __aenter__(self) -> Admission:
            await asyncio.sleep(1)
            return await super().__aenter__()

    async def main() -> None:
        async with served() as server:
            admission = SlowAdmission()

            async def ask() -> None:
                async with server.open(admission=admission):
                    raise AssertionError("it has left")

            client = asyncio.create_task(ask())
            await asyncio.sleep(0.5)
            asyncio.get_running_loop().call_at(1, client.cancel)
            await asyncio.wait([client])
            await asyncio.sleep(0.25)
            assert client.cancelled() and now() == 1.25
            assert admission.until_s == 1
            assert server.live.num_running == server.num_sessions == 0

    run(main())
    assert caplog.records == []
