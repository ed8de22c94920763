"""Which replica of an engine a call goes to: one that is named, or the one that has the conversation's cache.

Ray makes one router in each process that calls an engine. No state is shared: every router gives a conversation to the
same replica, as long as that has room.
"""

from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from stairstream.cluster.choosing import pinned, rank

MOST_LEFT = 64
"""Replicas that are remembered when Serve has taken them out: they let their sessions end."""


class SessionRouter(RequestRouter):  # type: ignore[misc]  # Ray is not typed
    """Routes by the session id of a call: `@TAG` names a replica, anything else is a conversation."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._left: dict[Any, RunningReplica] = {}

    @property
    def supports_rejection_protocol(self) -> bool:
        """A replica refuses nothing, so it is not asked first."""
        return False

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Candidates in ranks of one. A named replica that is not known is none: any other one refuses the call."""
        if pending_request is None or not (session := pending_request.metadata.session_id):
            return [list(candidate_replicas)]
        if (tag := pinned(session)) is not None:
            for replica in (*candidate_replicas, *self._left.values()):
                if replica.replica_id.unique_id == tag:
                    return [[replica]]
            return [list(candidate_replicas)]
        by_tag = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        lengths = {tag: self.replica_queue_len_cache.get(one.replica_id) or 0 for tag, one in by_tag.items()}
        return [[by_tag[tag]] for tag in rank(session, lengths)]

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Remember those that are taken out: sessions on them are still to be reached."""
        stays = {replica.replica_id for replica in replicas}
        self._left.update({one: replica for one, replica in self.curr_replicas.items() if one not in stays})
        for one in [one for one in self._left if one in stays]:
            del self._left[one]
        while len(self._left) > MOST_LEFT:
            del self._left[next(iter(self._left))]
        super().update_replicas(replicas)

    def on_replica_actor_died(self, replica_id: Any) -> None:
        """Forget it."""
        super().on_replica_actor_died(replica_id)
        self._left.pop(replica_id, None)

    async def _select_from_candidate_replicas(
        self, candidates: list[RunningReplica], backoff_index: int
    ) -> RunningReplica | None:
        """As Ray does, which would choose only among replicas that are not taken out."""
        if len(candidates) == 1 and candidates[0].replica_id in self._left:
            return candidates[0]
        return await super()._select_from_candidate_replicas(candidates, backoff_index)
