"""The server: every pipeline is a model to an OpenAI client. `serve` runs the process, `app` holds the routes."""
