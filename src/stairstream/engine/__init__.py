"""The only folder in which a run's tasks start: logs, one agent's loop, one run."""
