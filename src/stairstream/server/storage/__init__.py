"""The server's database, behind one interface."""
