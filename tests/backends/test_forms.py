"""What a response_format means for an engine that takes schemas."""

import pytest

from stairstream.backends.forms import schema_of


@pytest.mark.parametrize(
    ("response_format", "schema"),
    [
        (None, None),
        (b'{"type": "text"}', None),
        (b'{"type": "json_object"}', {"type": "object"}),
        (b'{"type": "json_object", "schema": {"type": "array"}}', {"type": "array"}),
        (b'{"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}', {"type": "array"}),
        (b'{"type": "json_schema"}', {"type": "object"}),
        (b"[]", None),
    ],
)
def test_schema_of_a_response_format(response_format: bytes | None, schema: object) -> None:
    assert schema_of(response_format) == schema
