"""The errors that a user can mend.

SarcoError
 ├─ InputError        a file, a folder or a DICOM tag is not what it has to be
 │   └─ OtherKindError   it is no axial CT in HU, and nothing is wrong with it: a scout view, a report, a map
 ├─ GeometryError     slices, grids or affines that cannot be reconciled
 ├─ CheckpointError   a run or its checkpoint is missing, damaged or of another kind
 ├─ OptionError       an option has a wrong value; exits with 2, as argparse does
 └─ PartlyDoneError   what could be done was done and written, the rest could not; exits with 3

A message is one line that says what, where and what to do next. It carries UIDs and paths, never what a DICOM header
says of the patient: no name, no PatientID, no birth date.
"""


class SarcoError(Exception):
    """A fault in what sarco was given, told in one line."""

    exit_status = 1


class InputError(SarcoError):
    """A file, a folder or a DICOM tag is not what it has to be."""


class OtherKindError(InputError):
    """A file or series is no axial CT in HU, though nothing is wrong with it: leaving it out is no failure."""


class GeometryError(SarcoError):
    """Slices, grids or affines cannot be reconciled."""


class CheckpointError(SarcoError):
    """A run or its checkpoint is missing, damaged or of another kind."""


class OptionError(SarcoError):
    """An option has a value that cannot be used."""

    exit_status = 2


class PartlyDoneError(SarcoError):
    """Work was done and is written, but not all of it, or not where it was asked for; says what and where."""

    exit_status = 3


class DataWarning(UserWarning):
    """Something about the data that a person should know, though work can go on; shown as one line."""
