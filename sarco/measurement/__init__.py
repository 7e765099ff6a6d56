"""What a label map measures: areas and densities of slices, level, patient, acquisition, cut-offs, report.

One measurer serves predictions, anybody's mask and corrections; it is fed slice by slice while pixels and labels are
at hand. Nothing is guessed: what is not known is not computed, and the reason stands where the value would be.
Published figures stand in ``cutoff_sets/``, a file per paper.
"""
