"""The same configuration on a Ray cluster: Ray Serve places, scales and heals. Ray is imported on use only."""
