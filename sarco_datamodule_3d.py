"""SarcoDataModule_3D: as SarcoDataModule, with three neighbouring slices as the channels of an image."""

from sarco.scan.series import SliceHeader
from sarco.training.cases import LabelledSlice
from sarco_datamodule import SarcoDataModule


class SarcoDataModule_3D(SarcoDataModule):  # noqa: N801 - the name that users of the predecessor know
    """Labelled slices with their neighbours; the label map is the middle slice's.

    Where a slice has no neighbour (at the ends of a series, beside a gap) the slice itself is repeated.
    """

    channels = 3

    def _headers(self, item: LabelledSlice) -> tuple[SliceHeader, ...]:
        below, above = item.neighbours
        return below, item.header, above
