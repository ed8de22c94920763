"""Who may start a run, and what it may cost."""
