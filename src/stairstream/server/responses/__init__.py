"""POST /v1/responses: the protocol of OpenAI's Responses."""
