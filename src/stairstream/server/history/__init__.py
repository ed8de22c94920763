"""Past runs with their questions and answers: kept where the configuration says `history: true`, read, and exported."""
