"""Requests that are made again: a client names its request, and finds its run by that name instead of a second one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from stairstream.server.durable.keeping import Journals, Origin
from stairstream.server.errors import ApiError, bad

HEADER = "idempotency-key"
MOST_CHARACTERS = 255


class Asked:
    """The requests with names whose runs a process knows."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str | None, str], str] = {}

    @contextmanager
    def beginning(self, origin: Origin | None) -> Iterator[None]:
        """In this block the run of a request begins; ApiError 409 if it has begun already."""
        if origin is None or origin.asked is None:
            yield
            return
        name = origin.key_id, origin.asked
        if (run_id := self._runs.get(name)) is not None:
            raise asked_before(run_id)
        self._runs[name] = ""
        try:
            yield
        finally:
            if not self._runs[name]:
                del self._runs[name]

    def note(self, origin: Origin | None, run_id: str) -> None:
        """This is the run of that request."""
        if origin is not None and origin.asked is not None:
            self._runs[origin.key_id, origin.asked] = run_id

    def forget(self, origin: Origin | None) -> None:
        """Its run is not known any more."""
        if origin is not None and origin.asked is not None:
            self._runs.pop((origin.key_id, origin.asked), None)


def read_name(headers: Mapping[str, str]) -> str | None:
    """The name that a client has given its request; ApiError 400 if it is none."""
    name = headers.get(HEADER)
    if name is not None and not (name.isascii() and name.isprintable() and 0 < len(name) <= MOST_CHARACTERS):
        raise bad("Idempotency-Key", f"must be 1 to {MOST_CHARACTERS} ASCII characters")
    return name


async def check_is_new(journals: Journals | None, origin: Origin) -> None:
    """ApiError 409 if the journals have a run of that request."""
    if journals is not None and origin.asked is not None:
        run_id = await journals.store.find_asked(origin.key_id, origin.asked)
        if run_id is not None:
            raise asked_before(run_id)


def asked_before(run_id: str) -> ApiError:
    """The error of a request that is made again; `run_id` is empty while its run is about to begin."""
    if not run_id:
        message, headers = "this request begins its run at this moment", {"retry-after": "1"}
    else:
        message, headers = f"this request has the run {run_id} already", {"x-stairstream-run": run_id}
    return ApiError(status=409, message=message, code="asked_before", headers=headers, is_permanent=bool(run_id))
