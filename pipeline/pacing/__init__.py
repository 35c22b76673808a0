"""When work may begin, when a call may start, and how long to wait before the next try."""
