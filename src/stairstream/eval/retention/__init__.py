"""Retention: the share of the gain of waiting that a policy keeps, by teacher forcing on recorded answers."""
