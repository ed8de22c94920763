"""POST /v1/responses: OpenAI's Responses, as a translation at the edge."""
