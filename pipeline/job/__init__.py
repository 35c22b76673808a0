"""The job: from a request to the result of its image."""
