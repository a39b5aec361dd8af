"""Runs code that nobody trusts: a child in namespaces of its own, with a private root, no privileges, no network, and bounds.

``outside`` begins it and holds its other end, ``inside`` is what it does before the command; knows no noun of the platform.
"""
