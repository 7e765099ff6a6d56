"""A results folder: everything in it, whole or not there, and the proof that its label map lies on the scan."""
