"""The report of a measurement: one page that needs no other file, and the same pictures as one image."""
