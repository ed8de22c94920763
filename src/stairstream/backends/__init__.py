"""The backends that run models, one file each. They know core, not the engine; foreign errors become ours here."""
