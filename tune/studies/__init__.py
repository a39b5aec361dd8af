"""Studies: searches for good hyperparameters, one TrainOS job a study, one run a trial."""
