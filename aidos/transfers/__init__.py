"""Bytes between this machine and the object store: datasets, artifacts, checkpoints and code, by presigned URL, checked by SHA-256."""
