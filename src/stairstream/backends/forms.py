"""The form that an answer is to have, for engines that hold a model to a JSON schema themselves."""

import msgspec


def schema_of(response_format: bytes | None) -> dict[str, object] | None:
    """The schema in a `response_format` as the wire has it; None where any text will do."""
    form = msgspec.json.decode(response_format) if response_format else None
    if not isinstance(form, dict):
        return None
    match form.get("type"):
        case "json_schema":
            named = form.get("json_schema")
            schema = named.get("schema") if isinstance(named, dict) else None
        case "json_object":
            schema = form.get("schema")
        case _:
            return None
    return schema if isinstance(schema, dict) else {"type": "object"}
