"""The examples for notebooks, Flask and FastAPI, each where its package is installed (extra `clients`)."""

import ast
import asyncio
import contextlib
import inspect
import io
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
APPS = ROOT / "examples" / "apps"
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
ANSWER = "Blue light scatters most."


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in configuration is one of scripted models."""
    monkeypatch.setenv("STAIRSTREAM_CONFIG", str(ROOT / "tests/examples.yaml"))


def test_flask_streams_an_answer_and_refuses_an_empty_question() -> None:
    pytest.importorskip("flask")
    client = runpy.run_path(str(APPS / "flask_app.py"))["app"].test_client()
    assert client.get("/ask?question=Why").get_data(as_text=True) == ANSWER
    refused = client.get("/ask")
    assert (refused.status_code, "question is empty" in refused.get_data(as_text=True)) == (400, True)


def test_fastapi_streams_an_answer_and_refuses_an_empty_question() -> None:
    pytest.importorskip("fastapi")
    testing = pytest.importorskip("fastapi.testclient")
    with testing.TestClient(runpy.run_path(str(APPS / "fastapi_app.py"))["app"]) as client:
        assert client.get("/ask", params={"question": "Why"}).text == ANSWER
        refused = client.get("/ask", params={"question": ""})
        assert (refused.status_code, "question is empty" in refused.text) == (400, True)


def cells() -> list[str]:
    """The code of the notebook."""
    page = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "code"]


def test_notebook_is_kept_without_outputs() -> None:
    page = json.loads(NOTEBOOK.read_text())
    code = [cell for cell in page["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_cells_of_the_notebook_run_inside_a_running_loop() -> None:
    names: dict[str, Any] = {}

    async def run(source: str) -> None:
        made = compile(source, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if inspect.iscoroutine(running := eval(made, names)):
            await running

    async def main() -> None:
        for source in cells():
            await run(source)

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        asyncio.run(main())
    assert ANSWER in printed.getvalue() and "balanced: first token after" in printed.getvalue()
    assert "<svg" in names["words"].answer._repr_html_()


@pytest.mark.slow
def test_notebook_runs_in_a_kernel() -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    page = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(page, timeout=60, kernel_name="python3").execute()
    shown = [one.get("data", {}).get("text/html", "") for cell in page.cells for one in cell.get("outputs", [])]
    assert sum("<svg" in html for html in shown) == 2
