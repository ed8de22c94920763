"""Conversations as people and clients write them: their shapes, and the messages that are read from them."""
