"""Label maps against label maps: overlap, distances of surfaces, agreement over patients.

Pairs are compared in world space: a prediction on another order of axes is turned onto the truth's grid first. A
label that one of two does not hold is not left out of the means; it counts as what it is.
"""
