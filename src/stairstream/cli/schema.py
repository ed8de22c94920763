"""`stairstream schema`: the JSON Schema of the configuration as a file has it."""

import json

from stairstream.config.json_schema import make_schema


def schema_text() -> str:
    """The schema, indented."""
    return json.dumps(make_schema(), indent=1, ensure_ascii=False) + "\n"
