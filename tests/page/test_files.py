"""What the server sends of the page, without a browser."""

import asyncio
import gzip
import html
import re
from pathlib import Path
from typing import Any

import pytest

from stairstream.server.http.exchange import AsgiMessage, Exchange
from stairstream.server.page import load_page, show_page

PAGE = load_page()
README = (Path(__file__).parents[2] / "README.md").read_text()
SCHEME = re.compile(r"--([\w-]+): (#[0-9a-f]{6});")


def fetch(file: str | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []

    async def receive() -> AsgiMessage:
        return {"type": "http.request"}

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"headers": raw, "path_params": {} if file is None else {"file": file}}

    async def main() -> None:
        await show_page(PAGE)(Exchange(scope, receive, send))

    asyncio.run(main())
    begun, body = sent
    return begun["status"], {name.decode(): value.decode() for name, value in begun["headers"]}, body["body"]


def test_all_of_the_page_is_under_150_kilobytes() -> None:
    assert sum(len(file.body) for file in PAGE.values()) < 150_000


def test_the_page_itself_stands_at_the_root() -> None:
    status, headers, body = fetch()
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body.startswith(b"<!doctype html>")


def test_a_browser_may_load_and_run_nothing_but_these_files() -> None:
    _, headers, _ = fetch("main.js")
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_tagline_claims_what_the_readme_has_measured() -> None:
    found = re.search(r'class="tagline">(.+?)</p>', PAGE["index.html"].body.decode())
    assert found
    said = html.unescape(found[1]).replace("\xa0", " ")
    claim = " ".join(README.split("\n\n")[1].split())
    assert "nine times sooner than by waiting for all" in said and "nine times sooner than by waiting for all" in claim
    assert re.findall(r"[\d.]+ s\b", said) == ["0.72 s", "6.39 s", "0.20 s"]
    assert all(number in claim for number in ("0.72 s instead of 6.39 s", "one model alone takes 0.20 s"))


def test_no_file_names_another_host() -> None:
    for name, file in PAGE.items():
        found = set(re.findall(r"https?://[\w.]+", file.body.decode()))
        assert found <= {"http://www.w3.org"}, name


def test_nothing_is_written_into_the_page_as_markup() -> None:
    for name, file in PAGE.items():
        text = file.body.decode()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text), name
        assert not re.search(r"localStorage|sessionStorage|document\.cookie|indexedDB", text), name
    assert not re.search(rb"<script>|<style|\sstyle=|\son\w+=", PAGE["index.html"].body)


def test_every_file_that_is_named_is_there() -> None:
    for file in PAGE.values():
        for name in re.findall(r'(?:from "\./|import\("\./|"/page/)([\w.]+)"', file.body.decode()):
            assert name in PAGE


def test_a_file_is_sent_packed_to_those_who_can_unpack_it() -> None:
    _, headers, body = fetch("main.js", accept_encoding="br, gzip")
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body) == PAGE["main.js"].body == fetch("main.js")[2]


def test_a_file_that_has_not_changed_is_not_sent_again() -> None:
    _, headers, _ = fetch("page.css")
    status, _, body = fetch("page.css", if_none_match=headers["etag"])
    assert (status, body) == (304, b"")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_that_is_read_stands_out_from_its_ground(scheme: str) -> None:
    light, dark = PAGE["page.css"].body.decode().split("prefers-color-scheme: dark", 1)
    colours = dict(SCHEME.findall(light)) | (dict(SCHEME.findall(dark)) if scheme == "dark" else {})
    read = ["ink", "soft", "accent", "bad", *(f"c{number}" for number in range(7))]
    for ground in ("card", "ground"):
        for name in read:
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert contrast(colours["bad"], colours["bad-ground"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2.2."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
