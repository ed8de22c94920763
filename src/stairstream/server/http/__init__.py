"""How requests come in and answers go out over one connection; nothing here knows of runs."""
