"""Writes the table of providers in docs/endpoints.md from those that `init` knows: `python docs/make_endpoints.py`."""

import re
from pathlib import Path

from stairstream.cli.init.providers import PROVIDERS

PAGE = Path(__file__).parent / "endpoints.md"


def make_endpoints() -> str:
    """The page with its table as it should be. A test checks that it is current."""
    rows = ["| `--endpoint` | address | key | to know |", "|---|---|---|---|"]
    for one in PROVIDERS.values():
        key = f"`{one.key_variable}`" if one.key_variable else "none"
        rows.append(f"| `{one.name}`: {one.title} | `{one.base_url}` | {key} | {one.note} |")
    table = "\n".join(rows)
    return re.sub(
        r"(?s)(<!-- providers -->\n).*?(<!-- end -->)", lambda found: f"{found[1]}{table}\n{found[2]}", PAGE.read_text()
    )


if __name__ == "__main__":
    PAGE.write_text(make_endpoints())
