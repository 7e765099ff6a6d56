"""A results folder: everything in it, whole or not there, and the proof that its label map lies on the scan.

The label map is written first, read again by other means and compared with the slices' headers; nothing is written
about one that is not proven.
"""
