"""Proof that a store keeps the contract of the minion job queue."""
