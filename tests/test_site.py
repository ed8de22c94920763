"""The built site: strict, whole, and without a request to anybody else."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stairstream
from tests.pages import DOCS, ROOT

pytestmark = pytest.mark.slow

MISTAKES = {
    "[a](policies.md#nowhere)": "'#nowhere'",
    "[a](nothing.md)": "'nothing.md'",
    "![a](images/none.png)": "'images/none.png'",
}
"""A line that is wrong, and what the build says of it."""


def build(folder: Path, docs: Path) -> "subprocess.CompletedProcess[str]":
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("the extra `docs` is not installed")
    settings = (ROOT / "mkdocs.yml").read_text().replace("paths: [src]", f"paths: ['{ROOT / 'src'}']")
    file = folder / "mkdocs.yml"
    file.write_text(f"{settings}\ndocs_dir: {docs}\n".replace("site_dir: build/site", f"site_dir: {folder / 'site'}"))
    command = [sys.executable, "-m", "mkdocs", "build", "-f", str(file)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)


def test_every_page_and_every_public_name_is_in_it(tmp_path: Path) -> None:
    built = build(tmp_path, DOCS)
    assert built.returncode == 0, built.stderr
    site = tmp_path / "site"
    pages = {page.relative_to(site).parent.as_posix() for page in site.rglob("index.html")}
    written = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    assert pages == {"." if name == "index" else name for name in written}
    reference = (site / "reference/python/index.html").read_text()
    shown = set(re.findall(r'id="stairstream\.([\w.]+)"', reference))
    assert {*stairstream.__all__} - {"topologies"} <= shown and "core.topologies.mixture" in shown
    loaded = [
        found
        for page in site.rglob("*.html")
        for found in re.findall(
            r'<(?:script|img|link rel="stylesheet")[^>]* (?:src|href)="(https?:[^"]+)"', page.read_text()
        )
    ]
    assert loaded == []


def test_mistake_ends_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    for page in DOCS.rglob("*"):
        if page.is_file():
            (docs / page.relative_to(DOCS)).parent.mkdir(parents=True, exist_ok=True)
            (docs / page.relative_to(DOCS)).write_bytes(page.read_bytes())
    with (docs / "glossary.md").open("a") as glossary:
        glossary.write("\n\n".join(["", *MISTAKES]))
    (docs / "orphan.md").write_text("# Nobody leads here\n")
    built = build(tmp_path, docs)
    assert built.returncode != 0
    assert [said for said in (*MISTAKES.values(), "orphan.md") if said not in built.stderr] == []
