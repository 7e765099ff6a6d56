"""How training slices are varied: what is drawn for a sample, then its appearance, then one warp.

HU change before the warp, so that a device that warps a whole batch later gets the same. Label ids are never
interpolated; a pixel that no scanner would see any more, or that metal fills, becomes background. What is drawn depends
on a generator that the caller seeds, and on nothing else.
"""
