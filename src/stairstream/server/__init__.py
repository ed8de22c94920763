"""The server: any OpenAI client gets a staircase. `serve` is its life, `app` its routes."""
