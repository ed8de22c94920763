"""Prediction: what a staircase will do on some endpoints, before it runs there."""
