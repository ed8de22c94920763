"""POST /v1/messages: Anthropic's Messages, as a translation at the edge."""
