"""What a policy keeps of what waiting gives: teacher forcing on recorded answers."""
