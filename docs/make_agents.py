"""Writes examples/agents.yaml, the blocks of docs/topologies.md as one file: `python docs/make_agents.py`."""

import re
from pathlib import Path

DOCS = Path(__file__).parent
FILE = DOCS.parent / "examples" / "agents.yaml"
HEAD = (
    "# The file of docs/topologies.md, made by docs/make_agents.py: stairstream ask -c agents.yaml -p tree QUESTION\n"
)


def make_agents() -> str:
    """The models, and the pipelines of every block. A test checks that the file is current."""
    models, *blocks = re.findall(
        r"^```yaml\n(.*?)^```$", (DOCS / "topologies.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return "".join([HEAD, models, "pipelines:\n", *(block.removeprefix("pipelines:\n") for block in blocks)])


if __name__ == "__main__":
    FILE.write_text(make_agents())
