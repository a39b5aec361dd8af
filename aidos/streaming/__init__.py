"""Reading as training reads: a stream of files or rows in a shuffled order that goes on exactly where it stopped."""
