"""Generated documents are current, links lead somewhere, and what a page names is there for those who only installed
the package."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

import stairstream
from tests.commands import find_module
from tests.pages import DOCS, PAGES, REPOSITORY, ROOT, SITE

GENERATED = {
    "make_cli": DOCS / "cli.md",
    "make_endpoints": DOCS / "endpoints.md",
}
REFERENCE = runpy.run_path(str(DOCS / "make_reference.py"))
SOURCE = ROOT / "src" / "stairstream"
IN_CLONE = re.compile(
    r"python -m (bench\.\w+)|\b((?:bench|examples|deploy|tests)/[\w./-]*\w)|\b(docs/\w+\.(?:py|sh))|`make ([\w-]+)"
)
"""What is only in a clone: programs and files of the repository that are not in the package."""


@pytest.mark.parametrize("name", GENERATED)
def test_generated_file_is_current(name: str) -> None:
    make = runpy.run_path(str(DOCS / f"{name}.py"))[name]
    assert GENERATED[name].read_text() == make(), f"run: python docs/{name}.py"


@pytest.mark.parametrize("name", REFERENCE["PAGES"])
def test_reference_is_current(name: str) -> None:
    assert (DOCS / "reference" / name).read_text() == REFERENCE["PAGES"][name](), "run: python docs/make_reference.py"


def links_of(page: Path) -> list[str]:
    text = page.read_text()
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[\w-]+\]: (\S+)$", text, re.MULTILINE)


def problem_of(link: str) -> str | None:
    """What is wrong with an absolute link to the site or the repository: no such page, heading or file."""
    if link.startswith(SITE):
        name, _, anchor = link.removeprefix(SITE).partition("#")
        page = DOCS / f"{name.strip('/') or 'index'}.md"
        if not page.exists():
            return f"{link}: no page {page.name}"
        slugs = {slug_of(title) for title in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)}
        return f"{link}: no such heading" if anchor and anchor not in slugs else None
    kept = re.fullmatch(rf"{re.escape(REPOSITORY)}/(?:blob|tree)/main/([^#]*)(?:#.*)?", link)
    return f"{link}: no such file" if kept and not (ROOT / kept[1]).exists() else None


def slug_of(title: str) -> str:
    """The anchor of a heading, as the site and GitHub make it."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_absolute_links_lead_to_what_is_there(page: Path) -> None:
    assert [problem for link in links_of(page) if (problem := problem_of(link))] == []


def test_links_of_the_readme_are_absolute() -> None:
    readme = ROOT / "README.md"
    links = links_of(readme)
    assert [link for link in links if not link.startswith("https://")] == [] and len(links) > 15
    used, defined = (
        set(re.findall(pattern, readme.read_text(), re.MULTILINE))
        for pattern in (r"\]\[([\w-]+)\]", r"^\[([\w-]+)\]: ")
    )
    assert used == defined


def test_addresses_of_the_project_are_those_of_its_files() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Documentation"] == SITE
    assert f"site_url: {SITE}\n" in (ROOT / "mkdocs.yml").read_text()
    assert [problem for url in urls.values() if (problem := problem_of(url))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_only_in_a_clone_has_an_address(page: Path) -> None:
    text = page.read_text()
    named = [next(filter(None, found)) for found in IN_CLONE.findall(text)]
    missing = [name for name in named if name.startswith("bench.") and not find_module(name)]
    missing += [name for name in named if "/" in name and not (ROOT / name).exists()]
    assert missing == []
    if page.name not in ("CONTRIBUTING.md", "SECURITY.md"):  # read in a clone
        assert not named or REPOSITORY in text, f"{page.name} names {named[0]} and says nowhere where to find it"


def test_upgrading_names_what_is_there() -> None:
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| (.*) \|$", (DOCS / "upgrading.md").read_text(), re.MULTILINE)[2:]
    source = "".join(file.read_text() for file in SOURCE.rglob("*.py"))
    names = {word for row in rows for word in re.findall(r"\w{5,}", " ".join(re.findall(r"`([^`]+)`", row)))}
    assert {name for name in names if name.removeprefix("stairstream_") not in source} == set()


def test_every_public_name_says_what_it_is() -> None:
    assert [name for name in stairstream.__all__ if not (getattr(stairstream, name).__doc__ or "").strip()] == []


def test_changelog_is_kept_as_keep_a_changelog_says() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    first, *versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    assert [one for one in versions if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", one)] == []
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    named = {one.partition("]")[0].removeprefix("[") for one in (first, *versions)}
    assert set(re.findall(r"^\[(.*)\]: https://", text, re.MULTILINE)) == named
    assert f"## To {stairstream.__version__}\n" in (DOCS / "upgrading.md").read_text()
