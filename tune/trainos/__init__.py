"""TrainOS: jobs, their queue, logs and checkpoints on the shared Ray cluster."""
