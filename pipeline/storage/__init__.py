"""Azure Storage: uploads, results, claims, marks and queues; and the facts that they hand over."""
