"""Files in, files out: DICOM and NIfTI become `Series` and HU, and results are read again."""
