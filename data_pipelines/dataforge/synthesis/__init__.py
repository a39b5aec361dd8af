"""Synthetic data: tables, images and texts made from a commit, kept as a commit that says so, with a report of how alike they are."""
