"""How pipelines read a commit's files: what kind each is, how workers share them, tables as Arrow batches, images, and why one is bad."""
