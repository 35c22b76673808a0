"""Helpers that tests share: people, pictures, clouds, faults."""
