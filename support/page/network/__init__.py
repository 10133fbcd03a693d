"""The network of a run, alive in the page: its weights, the passes forward and back."""
