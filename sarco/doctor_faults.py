"""The torture set of `sarco.doctor`: every fault by its name."""

from sarco.doctor_faults_files import FILE_FAULTS
from sarco.doctor_faults_geometry import GEOMETRY_FAULTS
from sarco.doctor_faults_pixels import PIXEL_FAULTS
from sarco.doctor_series import Fault

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (*GEOMETRY_FAULTS, *FILE_FAULTS, *PIXEL_FAULTS)}
