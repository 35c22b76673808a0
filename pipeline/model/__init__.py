"""The vision model: the question, the call, and what comes back."""
