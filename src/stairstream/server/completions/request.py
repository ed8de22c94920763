"""Reads the body of a completion as a `RunRequest`: its prompt is a message of the user."""

from stairstream.core.messages import question
from stairstream.core.options import RequestOptions
from stairstream.server.completions.wire import CompletionRequest
from stairstream.server.errors import bad
from stairstream.server.http.bodies import Fields, Shape
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.request import RunRequest, make_request
from stairstream.server.runs.settings import read_settings

_COMPLETION = Shape(CompletionRequest, passed=("stairstream",))


def read_completion(body: bytes, catalog: Catalog) -> RunRequest:
    """Read the body. Raises ApiError, which names the parameter."""
    given, fields = _COMPLETION.decode(body)
    ignored = _COMPLETION.list_unknown(fields)
    _refuse(given)
    prompt = given.prompt if isinstance(given.prompt, str) else given.prompt[0]
    if not prompt.strip():
        raise bad("prompt", "is empty")
    request = make_request(
        catalog,
        model=given.model,
        options=_read_request_options(given, fields),
        conversation=question(prompt),
        given=given.stairstream,
        fields=fields,
        must_call=False,
        is_stream=bool(given.stream),
        wants_usage=bool(given.stream_options and given.stream_options.include_usage),
        ignored=ignored,
    )
    if request.show != "none":
        raise bad("stairstream.show", "a completion has only its text; POST /v1/chat/completions shows thoughts")
    return request


def _refuse(given: CompletionRequest) -> None:
    """Raise ApiError for a parameter that is not supported and must not be ignored: it would change the answer."""
    for name, value in (("n", given.n), ("best_of", given.best_of)):
        if value is not None and value != 1:
            problem = "only one answer is given; send another request for another"
            raise bad(name, problem, "unsupported_parameter")
    if given.echo:
        raise bad("echo", "the prompt is not repeated", "unsupported_parameter")
    if given.logprobs is not None:
        raise bad("logprobs", "an answer of several models has no log probabilities", "unsupported_parameter")
    if given.suffix:
        raise bad("suffix", "text is not inserted before other text", "unsupported_parameter")


def _read_request_options(given: CompletionRequest, fields: Fields) -> RequestOptions:
    return RequestOptions(
        max_tokens=given.max_tokens,
        temperature=given.temperature,
        top_p=given.top_p,
        seed=given.seed,
        stop=(given.stop,) if isinstance(given.stop, str) else tuple(given.stop or ()),
        user=given.user,
        settings=read_settings(fields),
    )
