"""YAML to values; builds backends and graphs."""
