"""Invented patients: their anatomy, how it is painted onto slices, and their DICOM series with exact label maps."""
