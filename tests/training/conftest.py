"""What tests of this room share."""

import pytest
from labelled_cases import GRID

from sarco.phantom.patient import Phantom, make_phantom


@pytest.fixture(scope="session")
def pair() -> tuple[Phantom, Phantom]:
    """Two patients on one grid each."""
    return make_phantom(11, GRID), make_phantom(12, GRID)
