"""Shared by the engines that run a model of transformers: its files, and contexts and answers as token ids."""
