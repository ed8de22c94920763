"""The only place where a run's tasks start: logs, one agent's loop, one run."""
