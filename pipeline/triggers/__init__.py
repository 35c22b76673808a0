"""What the host hands over: each delivery is brought to a result, or deferred."""
