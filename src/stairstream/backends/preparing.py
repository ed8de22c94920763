"""The next request of a session: its layout, its body, and what is to become of the answer."""

import math
from collections.abc import Mapping
from typing import Literal

from stairstream.backends.call import Call
from stairstream.backends.capabilities import Capability
from stairstream.backends.continuation import Continuation
from stairstream.backends.endpoint import EFFORTS, Endpoint, Fields
from stairstream.backends.layouts import choose_layout, choose_seam
from stairstream.backends.wire import AnswerReader
from stairstream.core.context import Context
from stairstream.core.messages import estimate_size
from stairstream.core.prompts import render
from stairstream.core.seams import EDGE_TOKENS
from stairstream.core.session import Began
from stairstream.core.stops import StopFinder
from stairstream.core.tokens import estimate_tokens

Reasoning = Literal["template", "effort", "always"]
"""The way a reasoning model is kept from thinking anew, if at all."""

LESS_THINKING: Mapping[Reasoning | None, Fields] = {
    "template": {"chat_template_kwargs": {"enable_thinking": False}},
    "effort": {"reasoning_effort": EFFORTS[0]},
}

_REPEAT_TOKENS = 64
_TOKENS_PER_MESSAGE = 4


def prepare(
    context: Context,
    limit: int,
    capability: Capability,
    endpoint: Endpoint,
    *,
    reasoning: Reasoning | None,
    thinking_tokens: int,
    thinks_inline: bool,
) -> Call:
    """A call that is not sent yet, for up to `limit` tokens of answer.

    `thinks_inline`: the endpoint's thoughts come between tags also where an answer is continued.
    """
    layout, why, notes = choose_layout(context, capability)
    prompt = render(context, layout)
    sampling, is_quoted = context.agent.sampling, layout == "quoted"
    room = EDGE_TOKENS + min(_REPEAT_TOKENS, estimate_tokens(context.written)) if is_quoted else 0
    stops = StopFinder(sampling.stop, context.own) if sampling.stop else None
    seam = choose_seam(context, layout, prompt, capability)
    less_thinking = LESS_THINKING.get(reasoning, {}) if context.written else {}
    is_off = "chat_template_kwargs" in less_thinking and endpoint.takes("chat_template_kwargs")
    thinking_tokens = 0 if is_off else thinking_tokens
    room += thinking_tokens
    withholds = not (prompt.continues_last or is_off) and endpoint.lone_tag is not False
    body = endpoint.body(prompt, sampling, limit + room, capability.continues, context.agent.extras)
    prompt_tokens = sum(estimate_size(one) + _TOKENS_PER_MESSAGE for one in prompt.messages)
    return Call(
        began=Began(layout=layout, why=why, prompt_tokens=prompt_tokens, is_estimate=True),
        notes=notes,
        body={**body, **less_thinking},
        max_tokens=limit + room,
        continuation=Continuation(limit, seam, stops, ends_at_word=is_quoted, is_told=not thinking_tokens),
        is_continued=prompt.continues_last,
        # in a message that is continued, a tag may be a word like any other
        reader=AnswerReader(
            finds_thoughts=not prompt.continues_last or thinks_inline,
            withholds=withholds,
            is_sure=endpoint.lone_tag is True,
        ),
        withholds=withholds,
        gap_s=context.agent.gap_s or math.inf,
    )
