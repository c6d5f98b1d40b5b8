"""Throw-away servers for tests; each kind in its own module, for plugin authors too."""
