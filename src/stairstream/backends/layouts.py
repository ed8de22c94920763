"""The layout of the next request to an endpoint, and what is trimmed where the answer meets words sent."""

from stairstream.backends.capabilities import Capability
from stairstream.core.context import Context
from stairstream.core.prompts import Prompt, render, settle
from stairstream.core.seams import PrefillSeam, QuoteSeam, Seam, StrippedSeam
from stairstream.core.session import AskedLayout, Layout, Note

CANNOT_INSERT = Note(kind="ignored", text="layout insert: it needs an engine whose cache is in our hands")


def choose_layout(context: Context, capability: Capability) -> tuple[Layout, str, tuple[Note, ...]]:
    """The layout of the next call, why, and what of the agent's wish could not be had."""
    wish, can_continue = context.agent.layout, capability.continues != "none"
    if wish == "regrouped" and not can_continue:
        layout, why, _ = _choose(context, "rounds", capability)
        return layout, why, (_unable(wish, capability),)
    return _choose(context, settle(wish, context) if wish else None, capability)


def _choose(context: Context, asked: Layout | None, capability: Capability) -> tuple[Layout, str, tuple[Note, ...]]:
    can_continue = capability.continues != "none"
    if asked == "quoted":
        return "quoted", "asked for", ()
    if asked == "rounds" and not context.has_rounds and can_continue:
        return "grouped", "an answer that was begun elsewhere has no rounds", ()
    if asked == "rounds":
        if context.has_rounds and (can_continue or not render(context, "rounds").continues_last):
            return "rounds", "asked for", ()
        return "quoted", capability.why, (_unable("rounds", capability),)
    if not context.written and (asked == "grouped" or not context.agent.reads):
        return "grouped", "nothing to continue yet", ()
    if can_continue:
        notes = (_unable("insert", capability),) if asked == "insert" else ()
        return "grouped", f"{capability.continues}: {capability.why}", notes
    return "quoted", capability.why, (_unable(asked, capability),) if asked else ()


def _unable(layout: AskedLayout, capability: Capability) -> Note:
    if layout == "insert":
        return CANNOT_INSERT
    return Note(kind="ignored", text=f"layout {layout}: the endpoint can't continue an answer ({capability.why})")


def choose_seam(
    context: Context, layout: Layout, prompt: Prompt, capability: Capability, stripped: str = ""
) -> Seam | None:
    """The filter for the beginning of the answer to a prompt; None: nothing can come twice.

    `stripped` is white space that was left out at the prompt's end.
    """
    if layout == "quoted":
        return QuoteSeam(context.written) if context.written else None
    seam = _seam_of_prefill(prompt, capability) if prompt.continues_last else None
    return StrippedSeam(stripped, seam) if stripped else seam


def _seam_of_prefill(prompt: Prompt, capability: Capability) -> Seam:
    return PrefillSeam(prompt.messages[-1].content, echoes=capability.echoes, is_new=not capability.is_seen)
