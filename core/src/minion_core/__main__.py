"""``python -m minion_core`` is the ``minion`` command."""

from minion_core.cli import main

if __name__ == "__main__":
    main()
