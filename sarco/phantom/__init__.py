"""Invented patients: their anatomy, how it is painted onto slices, and their DICOM series with exact label maps.

A patient differs on all three axes, so that a flip, a transpose or a shift anywhere on the way shows. Structures are
functions of body coordinates in mm; labels are membership of voxel centres, before blur and noise.
"""
