"""Whole invented patients: the order of painting, views of their labels, DICOM series with exact label maps, a stream.

A patient differs on all three axes, so that a flip, a transpose or a shift anywhere on the way shows. Labels are
membership of voxel centres, before blur and noise. A number draws the same slice wherever it is drawn.
"""
