"""Access control: keys, limits and budgets."""
