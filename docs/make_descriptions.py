"""Writes src/stairstream/config/descriptions.json, what configuration.md says of each key, for the schema that editors
read: `python docs/make_descriptions.py`. A test checks that it is current."""

import json
import re
from pathlib import Path

DOCS = Path(__file__).parent
FILE = DOCS.parent / "src" / "stairstream" / "config" / "descriptions.json"


def make_descriptions() -> str:
    """The third column of every table of keys, by dataclass and key, as the text of a JSON file."""
    page = (DOCS / "configuration.md").read_text()
    found: dict[str, dict[str, str]] = {}
    for names, table in re.findall(r"<!-- keys: ([\w ]+) -->\n((?:\|.*\n)+)", page):
        for key, meaning in re.findall(r"^\| `(\w+)` \|[^|]*\| *(.*?) *\|$", table, re.MULTILINE):
            for name in names.split():
                if meaning:
                    found.setdefault(name, {}).setdefault(key, _as_text(meaning))
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _as_text(meaning: str) -> str:
    """Without links, which lead nowhere in an editor; nor is anything below there."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", meaning).replace(r"\|", "|").removesuffix(", below")


if __name__ == "__main__":
    FILE.write_text(make_descriptions())
