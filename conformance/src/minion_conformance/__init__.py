"""Proof that a store keeps the contract of the minion job queue.

A backend's whole test::

    from minion_conformance import suite

    TestConformance = suite("redis://localhost/15")
"""

from minion_conformance.session import Waiver
from minion_conformance.suite import suite

__all__ = ["Waiver", "suite"]
