"""Tokens in many scripts, cut where tokenizers cut: also inside of what a reader sees as one character."""

import random

POOLS: dict[str, tuple[str, ...]] = {
    "latin": ("The", " sky", " is", " blue", ",", " since", " air", " scatters", " short", " waves", ".", " So", "!\n"),
    "emoji with joiners": ("\U0001f469", "\u200d", "\U0001f4bb", " \U0001f3f3", "\ufe0f", "\U0001f468\u200d\U0001f467"),
    "combining marks": ("e", "\u0301", " n", "\u0303", "o\u0308", " a\u030a", "\u0327", "Z\u0351\u036b", "."),
    "line ends": ("one\r", "\n", "two\r\n", "\r", "\r\n\r\n", "three", "\n\n", " four.", "\u2028", "\x0b"),
    "cjk": ("天空", "は", "青", "い。", "因为", "散射", "\uff01", "\u3000", "하늘", "은 "),
    "right to left": ("السماء", " زرقاء", "،", " لأن", "\u200f", " שמיים", "."),
    "indic": ("आ", "का", "श", " नी", "ला", "\u094d", " है", "।"),
    "sections": ("\n## ", "Step ", "1. ", "\n2) ", "---\n", "text ", "more. ", "section 3", "\n", "# "),
    "control tokens": (
        "<|im_end|>",
        "</reference",
        ">",
        "<reference 1>",
        "[INST]",
        "</s>",
        " data: ",
        "[DONE]",
        "\x00",
    ),
    "long words": ("Donaudampfschifffahrtsgesellschaft", " a", "\t", "b" * 45, " ", "c c c", "    "),
}


def draw_tokens(rng: random.Random, count: int) -> tuple[tuple[str, ...], str]:
    """So many tokens, and the name of the script of most of them."""
    name = rng.choice(list(POOLS))
    pool = POOLS[name]
    if rng.random() < 0.3:
        pool = (*pool, *POOLS[rng.choice(list(POOLS))])
    return tuple(rng.choices(pool, k=count)), name


def draw_stops(rng: random.Random, tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Stop strings that a text holds, most of them across its tokens, and some that it does not."""
    text = "".join(tokens)
    stops = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        start, size = rng.randrange(len(text) + 1), rng.choice((1, 2, 3, 5, 9))
        found = text[start : start + size]
        kind = rng.random()
        if kind < 0.7 and found:
            stops.append(found)
        elif kind < 0.85 and found:
            stops.append(found + rng.choice(("\u0301", "x", found)))
        else:
            stops.append(rng.choice(("END", "\n\nUser:", "\u200d", "###")))
    return tuple(dict.fromkeys(stops))
