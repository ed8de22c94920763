"""What a person does on the page, and what there is to see."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

Look = Callable[..., "Sight"]


class Sight:
    """One open page."""

    def __init__(self, page: "Page") -> None:
        self.page = page

    def ask(self, pipeline: str, question: str = "Why?", *, waits: bool = True, beside: bool = False) -> None:
        """Ask, and wait until all answers have ended."""
        self.page.wait_for_selector("#send:enabled")
        self.page.select_option("#pipeline", pipeline)
        self.page.set_checked("#beside", beside)
        self.page.fill("#question", question)
        self.page.keyboard.press("Enter")
        if waits:
            self.wait_over()

    def wait_over(self) -> None:
        """Until all answers have ended, and have been drawn."""
        self.page.wait_for_selector("#stop", state="hidden", timeout=60_000)
        self.page.wait_for_timeout(250)

    def wait_until(self, condition: str, timeout_s: float = 20) -> None:
        """Until an expression is true; the page's policy forbids the browser to evaluate it by itself."""
        for _ in range(int(timeout_s / 0.02)):
            if self.run(condition):
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"never came true: {condition}")

    def text(self, selector: str) -> str:
        """What the first of these elements says."""
        return self.page.locator(selector).first.inner_text()

    @property
    def answer(self) -> str:
        return str(self.run("document.querySelector('.answer.chosen .prose').textContent"))

    @property
    def why(self) -> str:
        return self.text(".why")

    def marked(self, name: str) -> list[str]:
        """The texts under a highlight."""
        found: list[str] = self.run(f"[...(CSS.highlights.get('{name}') ?? [])].map(String)")
        return found

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        return self.page.evaluate(script)


class Looker:
    """Opens pages and collects what they complain of."""

    def __init__(self, browser: "Browser") -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def look(self, url: str, *, width: int = 1440, height: int = 1000, expects: str = "", **more: Any) -> Sight:
        """Open the page at that address; a complaint that holds the words `expects` is none."""
        context = self._browser.new_context(viewport={"width": width, "height": height}, **more)
        self._contexts.append(context)
        page = context.new_page()

        def complain(message: "ConsoleMessage") -> None:
            if not expects or expects not in message.text:
                self.complaints.append(f"{message.type}: {message.text}")

        page.on("console", complain)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        page.goto(url)
        return Sight(page)

    def close(self) -> None:
        for context in self._contexts:
            context.close()
