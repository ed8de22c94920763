"""Runs of the server, and how a protocol answers by one."""
