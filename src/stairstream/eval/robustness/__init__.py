"""How far an answer follows one proposer that is wrong."""
