"""What is told of the server: logs, metrics, traces, health."""
