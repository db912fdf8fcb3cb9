"""Leaves out what a reasoning model writes before its answer: one leading block `<think>...</think>`.

Only a block that begins the text is left out, and only when it ends; the tags may stand in an answer, too.
"""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


def answer_of(text: str, *, cut_off: bool) -> str:
    """The text after a leading block of thoughts; "" if an answer was cut off in the midst of them."""
    if not text.lstrip().startswith(OPEN):
        return text
    _, closed, answer = text.partition(CLOSE)
    if closed:
        return answer.lstrip()
    return "" if cut_off else text


class Thoughts:
    """The same for a text that comes in pieces of any length."""

    def __init__(self) -> None:
        self._held: str | None = ""  # what has come while it is not certain; None once the answer has begun
        self._answering = True  # white space between the thoughts and the answer is left out

    def add(self, piece: str) -> str:
        """What of the answer has become certain."""
        if self._held is None:
            return self._answer(piece)
        self._held += piece
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            # The end may lie across two pieces; thoughts are long, so that only the last bit is searched.
            at = self._held.find(CLOSE, max(0, len(self._held) - len(piece) - len(CLOSE)))
            if at < 0:
                return ""
            answer, self._held, self._answering = self._held[at + len(CLOSE) :], None, False
            return self._answer(answer)
        if OPEN.startswith(begun):
            return ""
        answer, self._held = self._held, None
        return answer

    def finish(self, *, cut_off: bool) -> str:
        """What is left at the end of the text."""
        held, self._held = self._held or "", None
        return answer_of(held, cut_off=cut_off)

    def _answer(self, piece: str) -> str:
        if not self._answering:
            piece = piece.lstrip()
            self._answering = bool(piece)
        return piece
