"""What a machine runs out of is said in one line; every other fault stays what it is."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sarco.core.errors import InputError, SarcoError
from sarco.core.resources import lacks_memory, within_memory, writing


def test_full_disk_says_what_where_and_how_much(tmp_path: Path) -> None:
    """Catches a message that leaves one to guess which disk is full."""
    path = tmp_path / "not" / "there" / "x.bin"
    with pytest.raises(InputError) as caught, writing("the table", path, "or choose another --out", 3_000_000):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    text = str(caught.value)
    assert text.startswith(f"{path}: the table cannot be written (No space left on device, ")
    assert "MB are free there, it needs about 3.0 MB); make room there, or choose another --out" in text


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied"), OSError("3 written")])
def test_other_reasons_ask_for_no_room(tmp_path: Path, error: OSError) -> None:
    """Catches advice to make room where rights are missing."""
    with pytest.raises(InputError) as caught, writing("it", tmp_path, "then try again"):
        raise error
    assert "room" not in str(caught.value) and "free" not in str(caught.value)


def raised(what: str) -> BaseException:
    """An error as a library raises it."""
    try:
        if what == "torch":
            torch.zeros(10**15)
        elif what == "numpy":
            np.zeros(10**15)
        else:
            bytearray(10**17)
    except (RuntimeError, MemoryError) as error:
        return error
    raise AssertionError


MESSAGES = [
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("DataLoader worker (pid 77) is killed by signal: Killed."),
    RuntimeError("DataLoader worker (pid(s) 77) is killed by signal: Bus error. It is possible that ..."),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has"),
]


@pytest.mark.parametrize("what", ["torch", "numpy", "python", *MESSAGES], ids=range(9))
def test_no_memory_is_known_by_whoever_says_it(what: str | BaseException) -> None:
    """Catches a foreign traceback for a batch that is too large, on whatever machine."""
    error = raised(what) if isinstance(what, str) else what
    assert lacks_memory(error)
    with pytest.raises(SarcoError) as caught, within_memory(lambda: "step 3", "lower --batch_size"):
        raise error
    text = str(caught.value)
    assert text.startswith("step 3: out of memory (") and text.endswith("; lower --batch_size") and "\n" not in text
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(
    "error", [RuntimeError("shape mismatch"), ValueError("out of memory"), OSError(errno.ENOSPC, "full"), KeyError("x")]
)
def test_other_faults_stay_what_they_are(error: Exception) -> None:
    """Catches a bug that is taken for a small machine."""
    assert not lacks_memory(error)
    with pytest.raises(type(error)), within_memory(lambda: "", ""):
        raise error
