"""What timers and operators ask for: lost events, running failed work again, readiness."""
