"""Blobsight's deployed code: the job that turns an uploaded image into a JSON result."""

__version__ = "0.1.0"
