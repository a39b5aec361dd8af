"""Trainings that are configured instead of written, on Ray Train. A file a kind; what may be said is in ``aidos.schemas.recipes``."""
