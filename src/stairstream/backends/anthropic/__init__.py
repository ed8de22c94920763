"""Models of Anthropic's Messages API, or of any server that speaks it."""
