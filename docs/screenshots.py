"""Takes the screenshots of docs/page.md with Debian's Chromium: python docs/screenshots.py

Scripted models answer, so that the pictures show the same words and nearly the same times whenever they are taken.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
PIPELINES = HERE.parent / "tests" / "page" / "pipelines.yaml"
IMAGES = HERE / "images"
QUESTION = "Why is the sky blue?"
_URL = re.compile(r"listening on (http://[\w.:]+)")


def main() -> None:
    """Serve, ask, take both."""
    with served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        take_step(open_page(browser, url, "light", 1130))
        take_beside(open_page(browser, url, "dark", 1010))
        browser.close()


@contextmanager
def served() -> Iterator[str]:
    """The address of a server of scripted models."""
    command = [sys.executable, "-m", "stairstream", "serve", "-c", str(PIPELINES), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        yield next(filter(None, map(_URL.search, server.stdout)))[1]
        server.terminate()


def open_page(browser: Browser, url: str, scheme: str, height: int) -> Page:
    """The page, ready to be asked."""
    page = browser.new_context(
        viewport={"width": 1200, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
    ).new_page()
    page.goto(url)
    page.wait_for_selector("#send:enabled")
    return page


def ask(page: Page) -> None:
    """Ask, and wait for the end."""
    page.fill("#question", QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector("#stop", state="visible")
    page.wait_for_selector("#stop", state="hidden")
    page.wait_for_timeout(400)


def take_step(page: Page) -> None:
    """An answer, with what had been read when some of its words were written."""
    ask(page)
    page.focus("#steps")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(400)
    page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
    page.wait_for_timeout(200)
    page.screenshot(path=IMAGES / "page.png")


def take_beside(page: Page) -> None:
    """The same question three times, side by side."""
    page.check("#beside")
    ask(page)
    page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
    page.wait_for_timeout(200)
    page.screenshot(path=IMAGES / "page-beside.png")


if __name__ == "__main__":
    main()
