"""Azure Storage: uploads, results, claims, marks and the request queue; and the facts that they hand over."""
