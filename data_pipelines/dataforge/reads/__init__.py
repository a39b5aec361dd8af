"""What runs read: which files and rows a training has seen."""
