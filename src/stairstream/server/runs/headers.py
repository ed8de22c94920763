"""The headers of an answer. Text that others wrote is always quoted in them."""

from collections.abc import Iterable
from urllib.parse import quote

from stairstream.server.runs.request import RunRequest
from stairstream.server.view import RunView

MOST_LISTED = 32
_LONGEST = 64


def make_headers(request: RunRequest, run: RunView) -> list[tuple[bytes, bytes]]:
    """The headers of an answer."""
    run_id = run.id.encode()
    headers = [
        (b"x-request-id", run_id),
        (b"request-id", run_id),
        (b"x-stairstream-run", run_id),
        (b"x-stairstream-pipeline", quote_name(request.pipeline.settings.name)),
        (b"x-stairstream-policy", quote_name(request.policy_name)),
    ]
    if request.ignored:
        headers.append((b"x-stairstream-ignored", list_names(request.ignored)))
    if request.notes:
        headers.append((b"x-stairstream-note", b"; ".join(quote(note, safe=_SAFE).encode() for note in request.notes)))
    return headers


_SAFE = " !\"#$&'()*+,/:;<=>?@[]^`{|}~"
"""Printable characters that a header may hold, without the percent sign, which quotes the rest."""


def quote_name(name: str) -> bytes:
    """A name, shortened, with commas and all but plain characters in percent encoding."""
    return quote(name[:_LONGEST], safe="./:[]@+ ").encode()


def list_names(names: Iterable[str]) -> bytes:
    """Names with commas between them; not more than MOST_LISTED."""
    listed = [*names]
    more = [b"..."] if len(listed) > MOST_LISTED else []
    return b", ".join([*map(quote_name, listed[:MOST_LISTED]), *more])
