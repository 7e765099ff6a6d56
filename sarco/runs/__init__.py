"""Run folders and their checkpoints, how a run is resumed, and Weights & Biases."""
