"""Puts what `stairstream eval retention` found into docs/retention.md: its table, and its picture.

stairstream eval retention --out FOLDER; python -m bench.retention FOLDER
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "retention.md"
PICTURE = PAGE.parent / "images" / "retention.svg"
MARKS = "<!-- presets -->", "<!-- end -->"


def renew(page: str, table: str) -> str:
    """The page with this table between its marks."""
    head, _, rest = page.partition(MARKS[0])
    _, _, tail = rest.partition(MARKS[1])
    return f"{head}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{tail}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write page and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    _, _, table = (folder / "retention.md").read_text().partition("## ")
    PAGE.write_text(renew(PAGE.read_text(), f"**{table.replace(chr(10), f'**{chr(10)}', 1).strip()}"))
    PICTURE.parent.mkdir(exist_ok=True)
    shutil.copyfile(folder / "retention.svg", PICTURE)


if __name__ == "__main__":
    main()
