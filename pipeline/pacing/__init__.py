"""Pacing: when work may begin, when a call may start, how long to wait before the next try."""
