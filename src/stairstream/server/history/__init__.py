"""Past runs with their questions and answers, if the configuration has `history: true`: kept, listed, exported."""
