"""Where models run: one file each. They know core, not the engine; foreign errors become ours here."""
