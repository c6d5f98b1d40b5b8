"""A share of a lock, held for the length of a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from minion_core.minion import Minion


class Guard:
    """A share of a lock, released at the end of a ``with`` block; false if there was none to be had.

    Attributes:
        name: The name of the lock.
        token: The share that it holds, ``None`` if none.
    """

    def __init__(self, minion: Minion, name: str, token: str | None) -> None:
        self._minion = minion
        self.name = name
        self.token = token

    def __bool__(self) -> bool:
        return self.token is not None

    def release(self) -> bool:
        """Release the share now; ``False`` when it had none, or had it no more."""
        token, self.token = self.token, None
        return token is not None and self._minion.unlock(self.name, token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()
