"""The same configuration on a Ray cluster: Ray Serve starts, scales and heals. Ray is imported on use only."""
