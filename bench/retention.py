"""Puts the results of `stairstream eval retention` into docs/retention.md: tables, and the picture of the frontier.

stairstream eval retention ... --out A; stairstream eval retention ... --out B
python -m bench.retention --presets A --frontier B
"""

import shutil
from pathlib import Path

from bench.arguments import arguments

PAGE = Path(__file__).parent.parent / "docs" / "retention.md"
PICTURE = PAGE.parent / "images" / "retention.svg"


def renew(page: str, name: str, table: str) -> str:
    """The page with this table after the mark of that name."""
    head, mark, rest = page.partition(f"<!-- {name} -->")
    _, end, tail = rest.partition("<!-- end -->")
    return f"{head}{mark}\n\n{table}\n\n{end}{tail}"


def table_of(folder: Path) -> str:
    """The table of a report with its title in bold, without the notes, which the page explains in its text."""
    title, _, rest = (folder / "retention.md").read_text().partition("## ")[2].partition("\n")
    return f"**{title}**\n\n{rest.partition(chr(10) + '- ')[0].strip()}"


def main() -> None:
    """Writes page and picture."""
    parser = arguments(__doc__)
    parser.add_argument("--presets", type=Path)
    parser.add_argument("--frontier", type=Path)
    args = parser.parse_args()
    for name in ("presets", "frontier"):
        if folder := getattr(args, name):
            PAGE.write_text(renew(PAGE.read_text(), name, table_of(folder)))
    if args.frontier:
        PICTURE.parent.mkdir(exist_ok=True)
        shutil.copyfile(args.frontier / "retention.svg", PICTURE)


if __name__ == "__main__":
    main()
