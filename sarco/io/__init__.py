"""Files in, files out: DICOM and NIfTI become `Series` and HU, and results folders are read again.

`sarco.io.nifti` alone swaps to (column, row, slice) and RAS, both ways. Whatever a file holds is read with suspicion:
what is damaged or says two things at once is an `InputError` that names the file and what to do.
"""
