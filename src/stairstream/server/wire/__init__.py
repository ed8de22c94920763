"""The shapes of the API's requests and answers, as msgspec Structs; the OpenAPI document is made of these."""
