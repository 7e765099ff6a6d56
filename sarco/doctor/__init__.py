"""The torture set, small CT series with one fault each and a known truth, and the judge of readers.

A reader is any command that writes NIfTI files in HU, or none and says why. What it writes is compared with the truth
in world space: right, refused with a reason, wrong, or crashed.
"""
