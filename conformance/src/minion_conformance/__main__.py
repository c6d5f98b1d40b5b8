"""``python -m minion_conformance`` is the command ``minion-conformance``."""

from minion_conformance.cli import main

main(prog_name="minion-conformance")
