"""The part that all protocols share: a request, its pipeline, its run, and how the run is answered."""
