"""Runs again: the same code, data and parameters as a new job, and whether the same came out."""
