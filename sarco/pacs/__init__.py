"""Results for the archive: DICOM segmentation, report, secondary capture, and what they take over from the source."""
