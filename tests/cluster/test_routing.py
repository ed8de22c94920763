"""The router of an engine, inside Ray's own routing: a call comes to the replica that its session id names."""

import asyncio
import itertools
from typing import Any

import pytest

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]

_ids = itertools.count()


class Replica:
    """As much of a RunningReplica as Ray's routing asks of one."""

    node_id = "node"
    max_ongoing_requests = 100

    def __init__(self, tag: str) -> None:
        from ray.serve._private.common import DeploymentID, ReplicaID

        self.replica_id = ReplicaID(unique_id=tag, deployment_id=DeploymentID(name="engine", app_name="app"))
        self.length = 0

    async def get_queue_len(self, *, deadline_s: float) -> int:
        return self.length


def make_router() -> Any:
    from ray.serve._private.common import DeploymentHandleSource, DeploymentID

    from stairstream.cluster.routing import SessionRouter

    return SessionRouter(
        deployment_id=DeploymentID(name="engine", app_name="app"),
        handle_source=DeploymentHandleSource.REPLICA,
        use_replica_queue_len_cache=True,
    )


async def route(router: Any, session: str) -> str:
    """The tag of the replica that a call with this session id goes to."""
    from ray.serve._private.common import RequestMetadata
    from ray.serve.request_router import PendingRequest

    number = f"{next(_ids)}"
    metadata = RequestMetadata(request_id=number, internal_request_id=number, session_id=session)
    async with asyncio.timeout(5):
        chosen = await router._choose_replica_for_request(PendingRequest(args=[], kwargs={}, metadata=metadata))
    return str(chosen.replica_id.unique_id)


def test_a_named_replica_is_reached_also_when_it_is_taken_out() -> None:
    async def scenario() -> None:
        router, a, b, c = make_router(), Replica("a"), Replica("b"), Replica("c")
        router.update_replicas([a, b])
        assert [await route(router, "@a"), await route(router, "@b")] == ["a", "b"]
        router.update_replicas([b, c])
        assert await route(router, "@a") == "a"
        assert {await route(router, f"conversation {number}") for number in range(20)} == {"b", "c"}

    asyncio.run(scenario())


def test_a_replica_that_died_is_not_reached_by_its_name() -> None:
    async def scenario() -> None:
        router, a, b = make_router(), Replica("a"), Replica("b")
        router.update_replicas([a, b])
        router.update_replicas([b])
        router.on_replica_actor_died(a.replica_id)
        assert await route(router, "@a") == "b"  # which does not know the session, and says so

    asyncio.run(scenario())


def test_conversations_leave_a_replica_that_has_far_more_calls() -> None:
    async def scenario() -> None:
        router, a, b = make_router(), Replica("a"), Replica("b")
        router.update_replicas([a, b])
        sessions = [f"conversation {number}" for number in range(20)]
        before = [await route(router, session) for session in sessions]
        assert before == [await route(router, session) for session in sessions]
        a.length = 50
        router.on_new_queue_len_info(a.replica_id, 50)
        assert {await route(router, session) for session in sessions} == {"b"}

    asyncio.run(scenario())
