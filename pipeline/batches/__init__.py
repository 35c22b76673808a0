"""Batches: lines that wait are sent together, at half the price, and their replies brought back to the job."""
