"""The names that endpoints give to the end of an answer, in the four words of OpenAI; pure.

| source | values |
|---|---|
| OpenAI, Azure, vLLM, SGLang, llama.cpp, Groq | stop, length, content_filter, tool_calls, function_call; abort (vLLM, SGLang) |
| Gemini, https://ai.google.dev/api/generate-content#FinishReason | STOP, MAX_TOKENS, SAFETY, RECITATION, LANGUAGE, BLOCKLIST, PROHIBITED_CONTENT, SPII, IMAGE_SAFETY, MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL, TOO_MANY_TOOL_CALLS, MALFORMED_RESPONSE, FINISH_REASON_UNSPECIFIED |
| Anthropic, https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons | end_turn, max_tokens, stop_sequence, tool_use, pause_turn, refusal, model_context_window_exceeded |
| Mistral, https://docs.mistral.ai/api | model_length, error |
| Cohere, https://docs.cohere.com/reference/chat | COMPLETE, STOP_SEQUENCE, MAX_TOKENS, TOOL_CALL, ERROR, TIMEOUT; before v2 ERROR_TOXIC, ERROR_LIMIT, USER_CANCEL |
| DeepSeek, https://api-docs.deepseek.com/api/create-chat-completion | insufficient_system_resource |
| OpenRouter, https://openrouter.ai/docs/api/reference/streaming | error |
| TGI, https://huggingface.github.io/text-generation-inference | eos_token, stop_sequence |
| watsonx, https://ibm.github.io/watsonx-ai-node-sdk | not_finished, token_limit, time_limit, cancelled |
| Together, https://github.com/openai/openai-dotnet/pull/267 | eos |
| Bedrock, https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html | content_filtered, guardrail_intervened; FINISH, LENGTH, CONTENT_FILTERED (Titan) |
| Zhipu, https://docs.bigmodel.cn/api-reference | sensitive, network_error |
| Ollama, https://github.com/ollama/ollama/blob/main/docs/api.md | load, unload |
| LM Studio, https://lmstudio.ai/docs/typescript | eosFound, stopStringFound, maxPredictedTokensReached, contextLengthReached, toolCalls, userStopped, modelUnloaded, failed |
| the Responses API | completed, max_output_tokens, incomplete |
"""  # noqa: E501

from typing import Literal

End = Literal["stop", "length", "full", "content_filter", "tool_calls", "broken", "unknown"]
"""`full`: the context window was the limit, not the call's own. `broken`: it is no end but a failure. `unknown`: the
answer has ended, for a reason that is not known."""

_SAID: dict[End, tuple[str, ...]] = {
    "stop": (
        *("stop", "eos", "eos_token", "end_turn", "end_of_turn", "stop_sequence", "stop_string", "end_of_text"),
        *("complete", "completed", "finish", "finished", "normal", "eos_found", "stop_string_found"),
    ),
    "length": (
        *("length", "max_tokens", "max_length", "max_new_tokens", "max_output_tokens", "max_completion_tokens"),
        *("model_length", "token_limit", "time_limit", "incomplete", "max_predicted_tokens_reached", "pause_turn"),
    ),
    "full": ("model_context_window_exceeded", "context_length_reached"),
    "content_filter": (
        *("content_filter", "content_filtered", "guardrail_intervened", "sensitive", "refusal", "safety"),
        *("image_safety", "recitation", "blocklist", "prohibited_content", "spii", "language", "error_toxic"),
    ),
    "tool_calls": ("tool_calls", "tool_call", "tool_use", "function_call"),
    "broken": (
        *("abort", "aborted", "error", "error_limit", "failed", "network_error", "insufficient_system_resource"),
        *("cancelled", "canceled", "user_cancel", "user_stopped", "timeout", "model_unloaded", "load", "unload"),
        *("malformed_function_call", "malformed_response", "unexpected_tool_call", "too_many_tool_calls"),
    ),
}
_NOT_YET = ("", "null", "none", "not_finished", "unspecified", "in_progress")
_BROKEN_WORDS = ("error", "abort", "network")


def _bare(said: str) -> str:
    """Only the letters, small: `MAX_TOKENS`, `maxTokens`, `FinishReason.MAX_TOKENS` are one."""
    return "".join(c for c in said.casefold() if c.isalnum()).removeprefix("finishreason")


_ENDS: dict[str, End] = {_bare(word): end for end, words in _SAID.items() for word in words}
_OPEN = frozenset(_bare(word) for word in _NOT_YET)


def end_of(said: str) -> End | None:
    """The meaning of a finish reason; None if it says that there is none yet."""
    if said in ("stop", "length"):
        return "stop" if said == "stop" else "length"
    bare = _bare(said)
    if bare in _OPEN:
        return None
    if (end := _ENDS.get(bare)) is not None:
        return end
    return "broken" if any(word in bare for word in _BROKEN_WORDS) else "unknown"


def worse_of(end: End, native: End | None) -> End:
    """The end as a gateway translated it, or as the model's own endpoint called it where that says less than `stop`."""
    return native if native in ("broken", "length", "full", "content_filter") and end in ("stop", "unknown") else end
