"""Benchmarks, load tests and simulations of the pipeline. Not deployed."""
