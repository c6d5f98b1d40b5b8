"""Proof that a store keeps the contract of the minion job queue.

A backend's whole test::

    from minion_conformance import suite

    TestConformance = suite("redis://localhost/15")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minion_conformance.adoption import suite
    from minion_conformance.session import Waiver

__all__ = ["Waiver", "suite"]


def __getattr__(name: str) -> Any:
    # pytest imports this package in everybody's test runs: only those of a suite pay for more than that.
    if name == "Waiver":
        from minion_conformance.session import Waiver  # noqa: PLC0415

        return Waiver
    if name == "suite":
        from minion_conformance.adoption import suite  # noqa: PLC0415

        return suite
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
