"""Sessions on a backend in another process, over a unix socket or whatever else a dialler reaches."""
