"""The medical ground floor of sarco: DICOM, geometry, label maps, cases, runs. Needs neither Lightning nor W&B."""

__version__ = "0.1.0"
