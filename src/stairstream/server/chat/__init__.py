"""The protocol of OpenAI's chat completions."""
