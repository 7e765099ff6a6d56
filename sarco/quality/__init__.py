"""Reasons to doubt: checks of a slice, flags of a series, likeness to the training data, intervals of areas."""
