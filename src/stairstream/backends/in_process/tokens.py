"""A tokenizer of transformers for texts that are parts of a context, and for answers that come token by token."""

import re
from collections.abc import Sequence
from itertools import groupby, pairwise
from threading import Lock
from typing import Any

from jinja2 import TemplateError

from stairstream.backends.in_process.pieces import Ids
from stairstream.core.control_tokens import is_control_token
from stairstream.core.messages import Message, as_dicts

_MOST_HELD_TOKENS = 4
"""A character is spelled by at most this many tokens; what is not one by then is no character."""


class Tokens:
    """Texts to ids and back. Safe to be used from several threads."""

    def __init__(self, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._lock = Lock()  # a fast tokenizer must not be changed while it is in use, and options change it
        self.special_ids = frozenset(tokenizer.all_special_ids) | frozenset(tokenizer.added_tokens_decoder)
        self.end_ids = end_ids
        special_ids = _find_special(tokenizer)
        self.control_names = _names(tokenizer, special_ids)
        """Finds the names of control tokens in a text, whose author may mean nothing by them."""
        self._control_ids = special_ids | _find_structural(tokenizer)
        self._breakable = _names(tokenizer, self._control_ids)
        self._known: dict[tuple[str, bool], Ids] = {}
        with self._lock:
            # some tokenizers put a space before any text; here a text is mostly not a beginning
            spelled = tokenizer.convert_ids_to_tokens(self._encode("a", True))
            self._guard = self._encode("\n", True) if "".join(spelled) != "a" else ()

    def __len__(self) -> int:
        """The number of different tokens."""
        return len(self._tokenizer)

    def encode(self, text: str, *, is_template: bool = False) -> Ids:
        """The ids of a part of a text; only in a template do the names of special tokens mean them."""
        key = (text, is_template)
        with self._lock:
            if key not in self._known:
                if len(self._known) > 512:
                    self._known.clear()
                self._known[key] = self._encode_part(text, is_template)
            return self._known[key]

    def are_of(self, ids: Sequence[int], text: str) -> bool:
        """Whether ids, perhaps of another model, spell a text here, without special tokens."""
        with self._lock:
            size = len(self._tokenizer)
            return all(0 <= token < size and token not in self.special_ids for token in ids) and (
                self._decode(ids) == text
            )

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ids spell; special tokens spell nothing."""
        with self._lock:
            return self._decode(ids)

    def spell_runs(self, ids: Sequence[int], marks: Sequence[bool]) -> list[tuple[str, bool]]:
        """Runs of tokens with the same mark, spelled with the names of special tokens: to be looked at."""
        found = []
        with self._lock:
            for mark, run in groupby(zip(ids, marks, strict=True), key=lambda pair: pair[1]):
                found.append((self._tokenizer.decode([token for token, _ in run]), mark))
        return found

    def apply_template(self, messages: Sequence[Message]) -> str:
        """The messages as the model's chat template renders them, ready for the assistant to begin."""
        with self._lock:
            if not self._tokenizer.chat_template:
                return "".join(f"{message.role}: {message.content}\n\n" for message in messages) + "assistant: "
            try:
                return self._apply(messages)
            except TemplateError:  # how templates say that they take no system message
                if messages[0].role != "system":
                    raise
                return self._apply(_fold_system(messages))

    def _apply(self, messages: Sequence[Message]) -> str:
        text: str = self._tokenizer.apply_chat_template(as_dicts(messages), tokenize=False, add_generation_prompt=True)
        return text

    def _encode_part(self, text: str, is_template: bool) -> Ids:
        ids = self._encode_inner(text, is_template)
        if is_template or self._control_ids.isdisjoint(ids):
            return ids
        parts = self._break_names(text)  # some tokenizers know the names as words like any other
        return ids if len(parts) == 1 else tuple(token for part in parts for token in self._encode_part(part, False))

    def _break_names(self, text: str) -> list[str]:
        """The text cut after the first letter of each name of a control token."""
        cuts = [0, *(found.start() + 1 for found in self._breakable.finditer(text)), len(text)]
        return [text[start:end] for start, end in pairwise(cuts) if start < end]

    def _encode_inner(self, text: str, is_template: bool) -> Ids:
        """The ids of a text that something stands before."""
        if not self._guard:
            return self._encode(text, is_template)
        ids = self._encode("\n" + text, is_template)
        if ids[: len(self._guard)] != self._guard:  # the line end went into a token with what follows
            return self._encode(text, is_template)
        return ids[len(self._guard) :]

    def _encode(self, text: str, is_template: bool) -> Ids:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not is_template))

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


class Speller:
    """Spells tokens that come one by one, in whole characters."""

    def __init__(self, tokens: Tokens, before: Sequence[int]) -> None:
        self._tokens = tokens
        self._ids = list(before[-_MOST_HELD_TOKENS:])
        self._spelled = len(self._ids)

    @property
    def is_inside_character(self) -> bool:
        """Whether the last tokens do not make a character yet."""
        return self._spelled < len(self._ids)

    def feed(self, token: int) -> str:
        """The text that a token completes; empty inside a character."""
        self._ids.append(token)
        before = self._tokens.decode(self._ids[: self._spelled])
        text = self._tokens.decode(self._ids)
        is_held = len(self._ids) - self._spelled < _MOST_HELD_TOKENS
        if is_held and text.endswith("\ufffd"):
            return ""
        self._ids = self._ids[-_MOST_HELD_TOKENS:]
        self._spelled = len(self._ids)
        return text[len(before) :]


def _find_special(tokenizer: Any) -> frozenset[int]:
    """The tokens that are no text: what a template is made of, and the ends of answers."""
    added = tokenizer.added_tokens_decoder
    return frozenset(tokenizer.all_special_ids) | {number for number, token in added.items() if token.special}


def _find_structural(tokenizer: Any) -> frozenset[int]:
    """Tokens that count as text, but structure a prompt by its template, as `<think>` and `<tool_call>` do."""
    template = str(tokenizer.chat_template)
    added = ((number, token.content) for number, token in tokenizer.added_tokens_decoder.items())
    return frozenset(number for number, name in added if (name.strip() and name in template) or is_control_token(name))


def _names(tokenizer: Any, ids: frozenset[int]) -> re.Pattern[str]:
    names = sorted(tokenizer.convert_ids_to_tokens(sorted(ids)), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def _fold_system(messages: Sequence[Message]) -> list[Message]:
    """For templates without a system role: its text goes in front of the first user message."""
    system, *others = messages
    for number, message in enumerate(others):
        if message.role == "user":
            others[number] = Message(role="user", content=f"{system.content}\n\n{message.content}")
            return others
    return [Message(role="user", content=system.content), *others]
