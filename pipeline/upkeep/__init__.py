"""Upkeep, on timers and on request: lost events, reruns, readiness."""
