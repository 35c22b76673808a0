"""What the pipeline stands and what it costs, measured: not part of what is deployed."""
