"""The graph from the raw file to the prediction: its edges, walked both ways."""
