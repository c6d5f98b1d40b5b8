"""The ``minion`` command."""

from minion_core.cli.root import main

__all__ = ["main"]
