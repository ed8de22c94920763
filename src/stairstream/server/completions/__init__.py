"""The protocol of OpenAI's completions, the older one: a prompt in, a text out."""
