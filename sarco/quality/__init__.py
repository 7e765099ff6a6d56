"""Reasons to doubt: checks of a slice, flags of a series, likeness to the training data, intervals, scores.

A flag is a hint to look, no verdict; each has a stable name, a sentence with figures, and its limit with a reason in
one table. What could not be checked is said, so that no flag is not taken for no fault.
"""
