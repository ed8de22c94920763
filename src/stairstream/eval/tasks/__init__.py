"""Tasks: scores of whole answers of single models, of waiting and of policies, side by side."""
