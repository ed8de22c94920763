"""`stairstream init`: a configuration for the models that a user has, by questions or by options."""
