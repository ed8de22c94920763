"""HTTP: connections, request bodies, event streams, routes. Nothing here knows of runs."""
