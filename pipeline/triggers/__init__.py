"""Triggers: each delivery of the host is brought to a result, or deferred."""
