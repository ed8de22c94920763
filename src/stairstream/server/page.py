"""The playground: files of this package, sent with headers that let a browser load and run nothing else."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from stairstream.server.errors import ApiError
from stairstream.server.http.exchange import Exchange, Handler

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no string becomes markup, whatever a script tries
        "trusted-types 'none'",
    )
)
_GUARDS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),  # revalidated each time, and answered with 304
    (b"vary", b"accept-encoding"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFile:
    """One file as it is sent: plain, and compressed."""

    body: bytes
    packed: bytes
    content_type: str
    etag: str


def load_page() -> Mapping[str, PageFile]:
    """The page's files by name."""
    found = (entry for entry in files("stairstream.server").joinpath("page").iterdir() if entry.is_file())
    return {entry.name: _pack(entry.name, entry.read_bytes()) for entry in found}


def _pack(name: str, body: bytes) -> PageFile:
    return PageFile(
        body=body,
        packed=gzip.compress(body, mtime=0),
        content_type=_TYPES[name[name.rindex(".") :]],
        etag=f'W/"{hashlib.sha256(body).hexdigest()[:16]}"',
    )


def show_page(page: Mapping[str, PageFile]) -> Handler:
    """Returns the handler for a file of the page, named by the path's `file`; without it, for the page itself."""

    async def show(exchange: Exchange) -> None:
        name = exchange.path_params.get("file", "index.html")
        if name not in page:
            raise ApiError(status=404, message=f"the page has no file {name[:80]!r}", code="not_found")
        await _send(exchange, page[name])

    return show


async def _send(exchange: Exchange, file: PageFile) -> None:
    headers_in = exchange.headers
    headers = [*_GUARDS, (b"etag", file.etag.encode()), (b"content-type", file.content_type.encode())]
    if file.etag in headers_in.get("if-none-match", ""):
        await exchange.begin(304, headers)
        await exchange.write(b"", is_last=True)
    elif "gzip" in headers_in.get("accept-encoding", ""):
        await exchange.answer(200, file.packed, [*headers, (b"content-encoding", b"gzip")])
    else:
        await exchange.answer(200, file.body, headers)
