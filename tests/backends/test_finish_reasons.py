"""The end of an answer, however an endpoint calls it."""

import pytest

from stairstream.backends.finish_reasons import End, end_of, worse_of


@pytest.mark.parametrize(
    ("said", "end"),
    [
        ("stop", "stop"),
        ("STOP", "stop"),
        ("FinishReason.STOP", "stop"),
        ("FINISH_REASON_STOP", "stop"),
        (" Eos_Token ", "stop"),
        ("eosFound", "stop"),
        ("COMPLETE", "stop"),
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("maxTokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("model_context_window_exceeded", "full"),
        ("contextLengthReached", "full"),
        ("SAFETY", "content_filter"),
        ("sensitive", "content_filter"),
        ("refusal", "content_filter"),
        ("TOOL_CALL", "tool_calls"),
        ("function_call", "tool_calls"),
        ("abort", "broken"),
        ("insufficient_system_resource", "broken"),
        ("MALFORMED_FUNCTION_CALL", "broken"),
        ("ERROR_LIMIT", "broken"),
        ("network_error", "broken"),
        ("some-new-Error", "broken"),
        ("OTHER", "unknown"),
        ("compaction", "unknown"),
        ("", None),
        ("null", None),
        ("not_finished", None),
        ("FINISH_REASON_UNSPECIFIED", None),
    ],
)
def test_an_end_is_known_in_every_spelling(said: str, end: End | None) -> None:
    assert end_of(said) == end


def test_what_a_gateway_calls_stop_may_be_less() -> None:
    assert worse_of("stop", "length") == "length"
    assert worse_of("stop", "broken") == "broken"
    assert worse_of("stop", "tool_calls") == "stop"
    assert worse_of("length", "broken") == "length"
    assert worse_of("stop", None) == "stop"
