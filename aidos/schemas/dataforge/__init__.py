"""Wire schemas of DataForge, one file a part of it."""
