"""The reference keeps the contract."""

from minion_conformance import suite

TestConformance = suite("reference:tests", erase=True)
