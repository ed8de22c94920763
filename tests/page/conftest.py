"""A real browser on a real server; where there is no Chromium, the tests that need it are skipped."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.page.looking import Look, Looker
from tests.page.serving import HERE, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Debian's Chromium, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium is installed")
    # one for each module: while it runs, nothing else in this thread may run a loop
    with playwright.sync_playwright() as running:
        one = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture
def look(browser: "Browser") -> Iterator[Look]:
    """Opens pages; what they complain of in their consoles fails the test."""
    looker = Looker(browser)
    yield looker.look
    looker.close()
    assert looker.complaints == []


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of agents that write as people read, twice as fast."""
    settings = yaml.safe_load((HERE / "pipelines.yaml").read_text())
    for model in settings["models"].values():
        model["token_s"] /= 2
    file = tmp_path_factory.mktemp("served") / "pipelines.yaml"
    file.write_text(yaml.safe_dump(settings))
    with served(file) as url:
        yield url


@pytest.fixture(scope="module")
def stress() -> Iterator[str]:
    """A server of agents that write much, fast, and nothing nice."""
    with served(HERE / "stress.yaml") as url:
        yield url
