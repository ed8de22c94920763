"""Quality as a number: retention, tasks, robustness."""
