"""The body, the grid around it, and a slice on its way there and back.

A pixel of the crop has one size in mm, which the training data chooses; with ``--crop=box`` each body's box sets its
own. Where a body is wider than the crop, pixels are larger, in steps, and nothing is cut; where they are as large as
the slice's, they lie on them. Probabilities come back linearly, then the likeliest label wins; outside the crop all
are 0, and background wins. Label ids are never interpolated; where ids are warped the nearest one is taken, and half-
way cases round back to where they came from. Three neighbouring slices get one grid around the bodies of all.
`transforms.Cropd` in the root does the same with MONAI's trace, and `monai_transforms` for whole volumes, in bundles.
"""
