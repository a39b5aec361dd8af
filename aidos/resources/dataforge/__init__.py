"""DataForge as the client sees it, one file a part of it."""
