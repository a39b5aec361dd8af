"""The points of metrics, as columns: many at once, of many runs."""
