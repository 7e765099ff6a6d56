"""The files of a data folder while layouts claim them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from sarco.core.errors import InputError
from sarco.io.nifti import is_nifti, nifti_stem


class DataFiles:
    """The files of a folder tree that no layout has claimed yet.

    Attributes:
        root: the data folder.
        count: how many files there were in the beginning.
    """

    def __init__(self, root: Path, files: Iterable[Path]) -> None:
        """Nothing is claimed yet.

        Args:
            root: the data folder.
            files: all below it, sorted.
        """
        self.root = root
        self._left = dict.fromkeys(files)
        self.count = len(self._left)

    @property
    def left(self) -> list[Path]:
        """What nobody has claimed, sorted."""
        return list(self._left)

    def claim(self, files: Iterable[Path]) -> None:
        """Takes files out."""
        for file in files:
            self._left.pop(file, None)

    def nifti_by_folder(self) -> dict[Path, dict[str, list[Path]]]:
        """The NIfTI files that are left: by folder, then by name without suffix, in small letters."""
        found: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for file in self._left:
            if is_nifti(file):
                found[file.parent][nifti_stem(file).lower()].append(file)
        return found

    def below(self, folder: Path) -> list[Path]:
        """What is left below a folder."""
        return [file for file in self._left if folder in file.parents]


def only_file(files: Sequence[Path]) -> Path:
    """The one file of a name.

    Raises:
        InputError: there are several, packed and plain, so nobody can say which counts.
    """
    if len(files) > 1:
        raise InputError(f"{files[0]} and {files[1]} share a name, so nobody can say which counts; move one away")
    return files[0]
