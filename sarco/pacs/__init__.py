"""Results for the archive: DICOM segmentation, report, secondary capture, and what they take over from the source.

highdicom writes them and is an extra, so it is imported where it is used. Each object is read again and compared
before it counts as written. The same prediction gets the same UIDs.
"""
