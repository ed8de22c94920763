"""The context of each write: with everything that was read, or with its references as they were before it was full."""

from stairstream.backends.full import LEAST_ROOM_TOKENS, note_full, refuse_prompt
from stairstream.backends.in_process.pieces import Piece
from stairstream.backends.in_process.prompting import Prompter
from stairstream.core.session import Note


class Fitting:
    """Keeps the contexts of one agent within `context_tokens`."""

    def __init__(self, prompter: Prompter, agent: str, context_tokens: int) -> None:
        self._prompter = prompter
        self._agent = agent
        self._context_tokens = context_tokens
        self.layout = prompter.layout
        """The layout of the last context."""
        # the context as it was last taken in, and how many own words stand before its last piece
        self._fixed: list[Piece] = []
        self._num_own_before = 0
        self._is_full = False

    @property
    def has_begun(self) -> bool:
        """Whether a first context was taken in."""
        return bool(self._fixed)

    def fit(self, limit: int) -> tuple[list[Piece], Note | None]:
        """The context for a write of up to `limit` tokens, and a note when it has become full.

        Raises ContextTooLong for a first one that leaves no room for a word.
        """
        pieces = self._prompter.build()
        room = self._context_tokens - sum(len(piece.ids) for piece in pieces)
        is_first = not self._fixed
        may_grow = not self._is_full or self._prompter.layout != self.layout  # in another one it may be shorter
        if may_grow and room >= (1 if is_first else min(limit, LEAST_ROOM_TOKENS)):
            self._fixed, self.layout, self._is_full = pieces, self._prompter.layout, False
            self._num_own_before = len(self._prompter.own) - len(pieces[-1].ids)
            return pieces, None
        if is_first:
            raise refuse_prompt(self._agent, self._context_tokens - room, self._context_tokens)
        note = None if self._is_full else note_full(self._context_tokens)
        self._is_full = True
        own = Piece(self._fixed[-1].key, tuple(self._prompter.own[self._num_own_before :]))
        return [*self._fixed[:-1], own], note
