"""The queue: who starts next on one shared cluster, who gives way, and why the others wait."""
