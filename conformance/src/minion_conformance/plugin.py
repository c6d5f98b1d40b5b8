"""The pytest plugin of the conformance suite: it touches only the suite's own items."""
