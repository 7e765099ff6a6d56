"""What several test files share: real data, the phantom in several geometries, and series with a tag gone wrong."""

import dataclasses
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pydicom
import pytest
from browser import Browser, missing_program
from hypothesis import settings
from numpy.typing import NDArray

import sarco
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom, write_dataset, write_series

# The same examples everywhere; `pytest --hypothesis-profile=search` looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, max_examples=500)
settings.load_profile("fixed")

SMALL_GRID = {"n_slices": 5, "rows": 96, "columns": 120, "spacing_mm": (3.1, 3.4, 6.0)}


@pytest.fixture(autouse=True)
def no_run_of_another_test() -> Iterator[None]:
    """A training by command leaves its run id to the processes that it starts; here the next test is one of them."""
    os.environ.pop("SARCO_RUN_ID", None)
    yield
    os.environ.pop("SARCO_RUN_ID", None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real CT data, which lies beside the checkout and is no part of it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real CT data in {folder}")
    return folder


@pytest.fixture(scope="session")
def dcm2niix() -> str:
    """The program dcm2niix: the system's, else the one that PyPI's package brings along."""
    program = shutil.which("dcm2niix")
    if program is None:
        program = str(pytest.importorskip("dcm2niix", reason="dcm2niix is not installed").bin)
        if not Path(program).is_file():
            pytest.skip(f"the package dcm2niix holds no program on {sys.platform}")
    return program


@pytest.fixture(scope="session")
def phantoms() -> dict[str, Phantom]:
    """The same kind of patient on grids that differ in what matters; rows, columns and slices are never alike."""
    return {
        "anisotropic": make_phantom(3, PhantomOptions(**SMALL_GRID, labels="groups")),
        "oblique": make_phantom(4, PhantomOptions(**SMALL_GRID, oblique=True, labels="groups")),
        "arms": make_phantom(4, PhantomOptions(n_slices=3, rows=128, columns=160, spacing_mm=(3.2, 3.2, 5), arms=True)),
    }


def turned(phantom: Phantom, row: Sequence[float], column: Sequence[float]) -> Phantom:
    """The same arrays, said to lie along other axes: rows step along `row`, columns along `column` (unit vectors)."""
    spacing_mm = np.linalg.norm(phantom.affine_lps[:3, :3], axis=0)
    affine = phantom.affine_lps.copy()
    affine[:3, :3] = np.stack([row, column, np.cross(column, row)], axis=1) * spacing_mm
    return dataclasses.replace(phantom, affine_lps=affine)


@pytest.fixture(scope="session")
def turned_phantoms(phantoms: dict[str, Phantom]) -> dict[str, Phantom]:
    """Series as scanners and reformats make them, besides the plain axial one."""
    axial = phantoms["anisotropic"]
    return {
        "axial": axial,
        "oblique": phantoms["oblique"],
        "feet first": turned(axial, (0, 1, 0), (-1, 0, 0)),
        "prone": turned(axial, (0, -1, 0), (-1, 0, 0)),
        "coronal": turned(axial, (0, 0, -1), (1, 0, 0)),
        "sagittal": turned(axial, (0, 0, -1), (0, 1, 0)),
        "sagittal from below": turned(axial, (0, 0, 1), (0, -1, 0)),
    }


@pytest.fixture
def series_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a phantom as DICOM and gives the folder."""

    def write(phantom: Phantom, name: str = "series", seed: int = 1) -> Path:
        write_series(phantom, tmp_path / name, patient_id="P001", seed=seed)
        return tmp_path / name

    return write


@pytest.fixture
def slice_file(phantoms: dict[str, Phantom], tmp_path: Path) -> Callable[..., Path]:
    """Writes one phantom slice after `change` has had its way with the data set, and gives the file."""
    first = write_series(phantoms["anisotropic"], tmp_path / "whole", patient_id="P001", seed=1)[0]

    def write(change: Callable[[pydicom.Dataset], object] | None = None, name: str = "changed.dcm") -> Path:
        (tmp_path / "changed").mkdir(exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom sees that what is written here is wrong
            dataset = pydicom.dcmread(first)
            if change:
                change(dataset)
            dataset.save_as(tmp_path / "changed" / name, implicit_vr=False, little_endian=True)
        return tmp_path / "changed" / name

    return write


@pytest.fixture(scope="session")
def dice() -> Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]:
    """Agreement of two label maps over their foreground, id by id."""

    def measure(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> float:
        both = (one == two) & (one > 0)
        return float(2 * both.sum() / ((one > 0).sum() + (two > 0).sum()))

    return measure


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One headless Chromium for all tests."""
    if reason := missing_program():
        pytest.skip(f"no browser: {reason}")
    window = Browser(tmp_path_factory.mktemp("browser"))
    yield window
    window.close()


@dataclasses.dataclass(frozen=True)
class TinyRun:
    """A network that learned next to nothing, from Python, in seconds.

    Attributes:
        data: three patients of three slices, with label maps.
        unseen: the oblique series of a patient that training never saw; its label map lies beside it.
        dirpath: the folder of checkpoints.
        trained: what `sarco.train` gave back.
        epochs: what it called ``progress`` with.
        lines: what it called ``tell`` with.
    """

    data: Path
    unseen: Path
    dirpath: Path
    trained: sarco.Trained
    epochs: Sequence[tuple[int, int, dict[str, float]]]
    lines: Sequence[str]
    TRAINING: ClassVar = {"image_size": 64, "batch_size": 4, "learning_rate": 1e-3, "pretrained": "no", "gpu": -1}

    @property
    def options(self) -> dict[str, object]:
        """What a prediction needs to find the run; torch is the engine that compiles nothing."""
        return {"run": self.trained.run_id, "dirpath": self.dirpath, "gpu": -1, "engine": "torch"}


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """One epoch on three small patients; nobody may change its folders."""
    root = tmp_path_factory.mktemp("tiny")
    data, unseen = root / "data", root / "unseen"
    write_dataset(data, 3, 1, PhantomOptions(n_slices=3, rows=64, columns=72))
    write_dataset(unseen, 1, 9, PhantomOptions(n_slices=4, rows=64, columns=72, oblique=True))
    epochs: list[tuple[int, int, dict[str, float]]] = []
    lines: list[str] = []
    trained = sarco.train(
        data,
        dirpath=root / "ckpt",
        run_id="tiny",
        max_epochs=1,
        progress=lambda *epoch: epochs.append(epoch),
        tell=lines.append,
        **TinyRun.TRAINING,
    )
    return TinyRun(data, unseen / "P001", root / "ckpt", trained, epochs, lines)
