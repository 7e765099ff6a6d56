"""SarcoDataModule_3D: as SarcoDataModule, with three neighbouring slices as the channels of an image."""

from sarco.scan.series import SliceHeader
from sarco.training.cases import LabelledSlice
from sarco_datamodule import SarcoDataModule


class SarcoDataModule_3D(SarcoDataModule):  # noqa: N801 - the name that users of the predecessor know
    """Labelled slices with their neighbours; the label map is the middle slice's.

    Where a slice has no neighbour (at the ends of a series, beside a gap) the slice itself is repeated.
    """

    channels = 3

    def setup(self, stage: str | None = None) -> None:
        """As `SarcoDataModule.setup`; notes slices that stand alone, because their images repeat one slice."""
        super().setup(stage)
        alone = sum(item.neighbours == (item.header, item.header) for item in self.slices)
        note = (
            f"{alone} of {len(self.slices)} slices have no neighbour in their folder, so their images repeat one slice"
        )
        if alone and note not in self.notes:
            self.notes.append(note)

    def _headers(self, item: LabelledSlice) -> tuple[SliceHeader, ...]:
        below, above = item.neighbours
        return below, item.header, above
