"""A scripted OpenAI-compatible endpoint, to try things against."""
