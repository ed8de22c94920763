"""What all protocols share: a request, the pipeline that it gets, its run, and how that is answered."""
