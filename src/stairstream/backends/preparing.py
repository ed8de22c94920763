"""The next request of a session: its layout, its body, and what is to become of the answer."""

import math

from stairstream.backends.call import Call
from stairstream.backends.capabilities import Capability
from stairstream.backends.continuation import Continuation
from stairstream.backends.endpoint import Endpoint, Fields
from stairstream.backends.layouts import choose_layout, choose_seam
from stairstream.core.context import Context
from stairstream.core.messages import estimate_size
from stairstream.core.prompts import render
from stairstream.core.seams import EDGE_TOKENS
from stairstream.core.session import Began
from stairstream.core.stops import StopFinder
from stairstream.core.tokens import estimate_tokens

_REPEAT_TOKENS = 64
_TOKENS_PER_MESSAGE = 4


def prepare(
    context: Context,
    limit: int,
    capability: Capability,
    endpoint: Endpoint,
    *,
    settings: Fields,
    thinking_tokens: int | None,
    thinks_inline: bool,
) -> Call:
    """A call that is not sent yet, for up to `limit` tokens of answer.

    `settings` are fields of the body besides. `thinking_tokens` is the room for thoughts on top of the limit; None:
    the call is known not to think. `thinks_inline`: the endpoint's thoughts come between tags also where an answer is
    continued.
    """
    layout, why, notes = choose_layout(context, capability)
    prompt, stripped = endpoint.fit(render(context, layout), context, layout)
    sampling, is_quoted = context.agent.sampling, layout == "quoted"
    room = EDGE_TOKENS + min(_REPEAT_TOKENS, estimate_tokens(context.written)) if is_quoted else 0
    stops = StopFinder(sampling.stop, context.own) if sampling.stop else None
    seam = choose_seam(context, layout, prompt, capability, stripped)
    room += thinking_tokens or 0
    withholds = not (prompt.continues_last or thinking_tokens is None) and endpoint.lone_tag is not False
    body = endpoint.body(prompt, sampling, limit + room, capability.continues, context.agent.extras)
    prompt_tokens = sum(estimate_size(one) + _TOKENS_PER_MESSAGE for one in prompt.messages)
    return Call(
        began=Began(layout=layout, why=why, prompt_tokens=prompt_tokens, is_estimate=True),
        notes=notes,
        body={**body, **settings},
        max_tokens=limit + room,
        continuation=Continuation(limit, seam, stops, ends_at_word=is_quoted, is_told=not thinking_tokens),
        is_continued=prompt.continues_last,
        # in a message that is continued, a tag may be a word like any other
        reader=endpoint.make_reader(
            finds_thoughts=not prompt.continues_last or thinks_inline,
            withholds=withholds,
            is_sure=endpoint.lone_tag is True,
        ),
        withholds=withholds,
        gap_s=context.agent.gap_s or math.inf,
    )
