"""How the fuzzer damages files: bytes, DICOM elements and sequences, whole files, NIfTI headers, gz streams, JSON.

A mutator takes a source of chance and the files of a seed (name -> bytes), changes the files in place, and says in a
few words what it did; or gives None where it has nothing to bite on. The same chance gives the same damage.
"""

import contextlib
import gzip
import io
import json
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

Files = dict[str, bytes]
Mutator = Callable[[random.Random, Files], str | None]

HEADER_BYTES = 1800  # of a slice file: most damage is to go where meaning is dense
TEXTS = (
    b"", b" ", b"0", b"-1", b"nan", b"inf", b"-inf", b"1e30", b"-1e30", b"1e-30", b"1e400", b"1" * 400, b"1\\2",
    b"\\\\\\",     b"\\".join([b"1"] * 3000), b"x" * 60000, b"\xff\xfe\x80", b"\n", b"1\n2", b"\0\0",
    b"CT\nMR", b"1,5", b"0x10",
    b"1.2.840.10008.1.2.4.50", b"HU", b"LOCALIZER", b"\x1b$B", b"../../x", b"%s%n{0}", b"99999999999999999999",
)  # fmt: skip
BINARIES = (
    b"", b"\0", b"\0\0", b"\1\0", b"\xff\xff", b"\0\x80", b"\xff\x7f", b"\0\0\0", b"\xff" * 4, b"\0\0\x80\x7f",
    b"\0\0\xc0\x7f", b"\0\0\0\0\0\0\xf0\x7f", b"\0\0\0\0\0\0\xf8\x7f", b"\xff\xff" * 3000, b"\x10\0",
    b"\x08\0", b"\x20\0",
)  # fmt: skip
TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
VRS = (
    *TEXT_VRS, "AT", "FD", "FL", "OB", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "UN", "US", "UV", "SQ",
    "ZZ", "..",
)  # fmt: skip


# --- bytes -----------------------------------------------------------------------------------------------------------


def pick(rng: random.Random, files: Files, suffix: tuple[str, ...] = ()) -> str | None:
    """One of the files that hold something."""
    names = sorted(name for name, content in files.items() if content and (not suffix or name.endswith(suffix)))
    return rng.choice(names) if names else None


def place(rng: random.Random, content: bytes) -> int:
    """A byte of a file, in its head more often than not."""
    return rng.randrange(min(len(content), HEADER_BYTES) if rng.random() < 0.7 else len(content))


def flip_bits(rng: random.Random, files: Files) -> str | None:
    """A few bits of one file."""
    name = pick(rng, files)
    if not name:
        return None
    content = bytearray(files[name])
    places = [place(rng, content) for _ in range(rng.choice((1, 1, 1, 2, 4, 16)))]
    for at in places:
        content[at] ^= 1 << rng.randrange(8)
    files[name] = bytes(content)
    return f"bits flipped in {name} at {places}"


def set_run(rng: random.Random, files: Files) -> str | None:
    """A run of bytes becomes 0, 255 or noise."""
    name = pick(rng, files)
    if not name:
        return None
    content = bytearray(files[name])
    at, length = place(rng, content), rng.choice((1, 2, 4, 8, 32, 128, 1024))
    length = min(length, len(content) - at)
    content[at : at + length] = rng.choice((b"\0" * length, b"\xff" * length, rng.randbytes(length)))
    files[name] = bytes(content)
    return f"{length} bytes set in {name} at {at}"


def truncate(rng: random.Random, files: Files) -> str | None:
    """A file ends early."""
    name = pick(rng, files)
    if not name:
        return None
    at = place(rng, files[name])
    files[name] = files[name][:at]
    return f"{name} truncated to {at} bytes"


def insert(rng: random.Random, files: Files) -> str | None:
    """Bytes too many: noise, zeros or a piece of the file itself, in the middle or at the end."""
    name = pick(rng, files)
    if not name:
        return None
    content = files[name]
    at = len(content) if rng.random() < 0.2 else place(rng, content)
    start = place(rng, content)
    extra = rng.choice((rng.randbytes(rng.randrange(1, 40)), b"\0" * rng.randrange(1, 40), content[start : start + 64]))
    files[name] = content[:at] + extra + content[at:]
    return f"{len(extra)} bytes inserted into {name} at {at}"


def cut_out(rng: random.Random, files: Files) -> str | None:
    """Bytes are missing in the middle."""
    name = pick(rng, files)
    if not name:
        return None
    content = files[name]
    at, length = place(rng, content), rng.choice((1, 2, 4, 8, 64, 512))
    files[name] = content[:at] + content[at + length :]
    return f"{length} bytes cut out of {name} at {at}"


# --- DICOM elements --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What pydicom says about damage while the fuzzer makes it."""
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pydicom.config.settings.writing_validation_mode = before


def parse(content: bytes) -> pydicom.FileDataset:
    """A file as pydicom sees it."""
    return pydicom.dcmread(io.BytesIO(content), force=True)


def unparse(dataset: pydicom.FileDataset) -> bytes:
    """The file with this data set, encoded as it was."""
    buffer = io.BytesIO()
    implicit, little = dataset.original_encoding
    has_syntax = "TransferSyntaxUID" in dataset.file_meta
    encoding = {} if has_syntax else {"implicit_vr": implicit, "little_endian": little}
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=False, **encoding)
    return buffer.getvalue()


def elements(dataset: Dataset) -> list[tuple[Dataset, BaseTag]]:
    """Every element, those of its sequences too; pixels only once in a while, because there is one of them."""
    found = []
    for tag in list(dataset.keys()):
        found.append((dataset, tag))
        with contextlib.suppress(Exception):
            if dataset[tag].VR == "SQ":
                found += [inner for item in dataset[tag].value for inner in elements(item)]
    return found


def raw(tag: BaseTag, vr: str, value: bytes, like: pydicom.FileDataset) -> RawDataElement:
    """An element that is written as it stands."""
    implicit, little = like.original_encoding
    return RawDataElement(tag, vr, len(value), value, 0, bool(implicit), bool(little), True)


def hostile_value(rng: random.Random, vr: str) -> bytes:
    """What a tag of this kind must never hold, or rarely does."""
    values = TEXTS if (vr in TEXT_VRS) != (rng.random() < 0.1) else BINARIES
    value = rng.choice(values)
    return value + b" " * (len(value) % 2) if rng.random() < 0.9 else value


def change_element(rng: random.Random, dataset: pydicom.FileDataset) -> str | None:  # noqa: PLR0911
    """One element gets another value or VR, goes, or swaps with another."""
    choices = elements(dataset)
    if not choices:
        return None
    owner, tag = rng.choice(choices)
    vr = "UN"
    with contextlib.suppress(Exception):
        vr = owner[tag].VR
    word = f"{tag} {pydicom.datadict.keyword_for_tag(tag)}"
    how = rng.choice(("value", "value", "value", "vr", "remove", "swap", "copy", "multiply"))
    if how == "remove":
        del owner[tag]
        return f"{word} removed"
    if how in ("swap", "copy"):
        other, other_tag = rng.choice(choices)
        mine, theirs = owner.get_item(tag), other.get_item(other_tag)
        if "SQ" in (vr, other[other_tag].VR) and how == "swap":
            return None  # an item cannot hold its own data set
        values = [element.value if element.is_raw else None for element in (mine, theirs)]
        if None in values:
            return None
        owner._dict[tag] = raw(tag, vr, values[1], dataset)
        if how == "swap":
            other._dict[other_tag] = raw(other_tag, other[other_tag].VR, values[0], dataset)
        return f"{word} has the value of {other_tag}{', and the other way round' if how == 'swap' else ''}"
    if how == "multiply":
        element = owner.get_item(tag)
        if not element.is_raw or not element.value:
            return None
        times = rng.choice((2, 3, 7))
        between = b"\\" if vr in TEXT_VRS else b""
        owner._dict[tag] = raw(tag, vr, between.join([element.value] * times), dataset)
        return f"{word} {times} times"
    new_vr = rng.choice(VRS) if how == "vr" else vr
    value = hostile_value(rng, new_vr)
    owner._dict[tag] = raw(tag, new_vr, value, dataset)
    return f"{word} is {new_vr} {value[:24]!r} of {len(value)} bytes"


def change_elements(rng: random.Random, files: Files, n_files: int) -> str | None:
    """The same damage to the elements of several files, each decided by the same chance."""
    names = sorted(name for name, content in files.items() if content[128:132] == b"DICM" or name.endswith(".dcm"))
    if len(names) < n_files:
        return None
    seed = rng.random()
    said = None
    for name in rng.sample(names, n_files):
        with quiet(), contextlib.suppress(Exception):  # what pydicom cannot write is no mutation
            dataset = parse(files[name])
            said = change_element(random.Random(seed), dataset)
            if said:
                files[name] = unparse(dataset)
    return f"in {n_files} files {said}" if said else None


def change_one(rng: random.Random, files: Files) -> str | None:
    """An element of one file."""
    return change_elements(rng, files, 1)


def change_several(rng: random.Random, files: Files) -> str | None:
    """The same element of several slices at once."""
    n_files = sum(name.endswith(".dcm") for name in files)
    return change_elements(rng, files, rng.randint(2, n_files)) if n_files > 1 else None


def duplicate_element(rng: random.Random, files: Files) -> str | None:
    """An element stands in the file twice, the second time perhaps with another value."""
    name = pick(rng, files, (".dcm",))
    if not name:
        return None
    with quiet(), contextlib.suppress(Exception):
        dataset = parse(files[name])
        implicit, little = dataset.original_encoding
        tag = rng.choice([tag for tag in list(dataset._dict) if tag.group < 0x7FE0])
        alone, twin = Dataset(), Dataset()
        alone._dict[tag] = dataset.get_item(tag)
        twin._dict[tag] = raw(tag, dataset[tag].VR, hostile_value(rng, dataset[tag].VR), dataset)
        encoded = []
        for one in (alone, twin):
            buffer = pydicom.filebase.DicomBytesIO()
            buffer.is_implicit_VR, buffer.is_little_endian = bool(implicit), bool(little)
            pydicom.filewriter.write_dataset(buffer, one)
            encoded.append(buffer.getvalue())
        at = files[name].find(encoded[0])
        if at >= 0:
            files[name] = files[name][:at] + rng.choice(encoded) + files[name][at:]
            return f"{tag} doubled in {name}"
    return None


def damage_sequence(rng: random.Random, files: Files) -> str | None:
    """Items vanish, double, change places, or are no items any more; or one lies in another a thousand times."""
    name = pick(rng, files, (".dcm",))
    if not name:
        return None
    with quiet(), contextlib.suppress(Exception):
        dataset = parse(files[name])
        sequences = [(owner, tag) for owner, tag in elements(dataset) if owner[tag].VR == "SQ"]
        if not sequences:
            return None
        owner, tag = rng.choice(sequences)
        items = list(owner[tag].value)
        how = rng.choice(("empty", "fewer", "double", "shuffle", "no items", "deep"))
        if how == "no items":
            owner._dict[tag] = raw(tag, "UN", rng.choice(BINARIES), dataset)
        elif how == "deep":
            inner = b""
            for _ in range(1500):
                inner = b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + inner
            owner._dict[tag] = raw(tag, "SQ" if rng.random() < 0.5 else "UN", inner, dataset)
        else:
            if how == "fewer":
                del items[rng.randrange(len(items))]
            elif how == "double":
                items.append(rng.choice(items))
            elif how == "shuffle":
                rng.shuffle(items)
            owner[tag].value = pydicom.Sequence([] if how == "empty" else items)
        files[name] = unparse(dataset)
        return f"sequence {tag} of {name}: {how}"
    return None


def damage_lengths(rng: random.Random, files: Files) -> str | None:
    """The length of an item or of an element lies."""
    name = pick(rng, files, (".dcm",))
    if not name:
        return None
    content = files[name]
    marks = (
        b"\xfe\xff\x00\xe0",
        b"\xfe\xff\x0d\xe0",
        b"\xfe\xff\xdd\xe0",
        b"\x28\x00",
        b"\x20\x00",
        b"\xe0\x7f\x10\x00",
    )
    mark = rng.choice(marks)
    starts = [at for at in range(len(content)) if content.startswith(mark, at)]
    if not starts:
        return None
    at = rng.choice(starts) + 4
    value = struct.pack("<I", rng.choice((0, 1, 2, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, rng.randrange(2**16))))
    files[name] = content[:at] + value + content[at + 4 :]
    return f"length at {at} of {name} is {value.hex()}"


def damage_codestream(rng: random.Random, files: Files) -> str | None:
    """A number in the head of a JPEG 2000 stream, such as its size, lies."""
    name = pick(rng, files, (".dcm",))
    start = files[name].find(b"\xff\x4f\xff\x51") if name else -1
    if not name or start < 0:
        return None
    at = start + rng.choice((8, 12, 16, 20, 24, 28, 32, 36, 40))
    value = struct.pack(">I", rng.choice((0, 1, 47, 61, 4096, 60000, 2**31 - 1, 2**32 - 1)))
    files[name] = files[name][:at] + value + files[name][at + 4 :]
    return f"code stream of {name} at {at - start} is {value.hex()}"


# --- whole files -----------------------------------------------------------------------------------------------------


def shuffle_files(rng: random.Random, files: Files) -> str | None:
    """Files are swapped (between series too), doubled, lost, emptied, renamed or joined."""
    names = sorted(files)
    if len(names) < 2:
        return None
    one, two = rng.choice(names), rng.choice(names)
    how = rng.choice(("swap", "swap", "copy", "lose", "empty", "rename", "join", "overwrite"))
    if how == "swap":
        files[one], files[two] = files[two], files[one]
    elif how == "copy":
        files[f"{one.rsplit('.', 1)[0]} copy.dcm"] = files[one]
    elif how == "lose":
        del files[one]
    elif how == "empty":
        files[one] = b""
    elif how == "rename":
        files[one.rsplit(".", 1)[0]] = files.pop(one)
    elif how == "join":
        files[one] += files[two]
    else:
        files[one] = files[two]
    return f"files: {how} {one} {two}"


# --- NIfTI -----------------------------------------------------------------------------------------------------------

# Name, offset and form of the fields of a NIfTI-1 header (nifti1.h).
NIFTI_FIELDS = (
    ("sizeof_hdr", 0, "i"), ("dim_info", 39, "B"), ("dim0", 40, "h"), ("dim1", 42, "h"), ("dim2", 44, "h"),
    ("dim3", 46, "h"), ("dim4", 48, "h"), ("dim5", 50, "h"), ("dim7", 54, "h"), ("intent_code", 68, "h"),
    ("datatype", 70, "h"), ("bitpix", 72, "h"), ("qfac", 76, "f"), ("pixdim1", 80, "f"), ("pixdim2", 84, "f"),
    ("pixdim3", 88, "f"), ("pixdim4", 92, "f"), ("vox_offset", 108, "f"), ("scl_slope", 112, "f"),
    ("scl_inter", 116, "f"), ("xyzt_units", 123, "B"), ("qform_code", 252, "h"), ("sform_code", 254, "h"),
    ("quatern_b", 256, "f"), ("quatern_c", 260, "f"), ("quatern_d", 264, "f"), ("qoffset_x", 268, "f"),
    ("srow_x0", 280, "f"), ("srow_x3", 292, "f"), ("srow_y1", 300, "f"), ("srow_z2", 320, "f"),
    ("srow_z3", 324, "f"), ("magic", 344, "i"), ("extension", 348, "i"), ("esize", 352, "i"),
)  # fmt: skip
NUMBERS = {
    "B": (0, 1, 2, 3, 7, 255),
    "h": (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 64, 128, 256, 512, 1792, 2048, 2304, 32767, -32768),
    "i": (0, 1, -1, 347, 348, 540, 0x0031692B, 0x0031696E, 0x0032692B, 16, 2**31 - 1, -(2**31)),
    "f": (
        0.0,
        1.0,
        -1.0,
        float("nan"),
        float("inf"),
        float("-inf"),
        1e30,
        -1e30,
        1e-30,
        348.0,
        352.5,
        1e9,
        0.5,
        1000.0,
    ),
}


def change_nifti(rng: random.Random, files: Files) -> str | None:
    """Fields of a header get values that they must not have; bits of a gz stream flip, before or after packing."""
    name = pick(rng, files, (".nii", ".nii.gz"))
    if not name:
        return None
    packed = name.endswith(".gz")
    content = files[name]
    if packed and rng.random() < 0.3:
        bad = bytearray(content)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        files[name] = bytes(bad)
        return f"gz stream of {name} damaged"
    try:
        inside = bytearray(gzip.decompress(content) if packed else content)
    except (OSError, EOFError, zlib.error):  # damaged already
        return None
    said = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        field, at, form = rng.choice(NIFTI_FIELDS)
        value = rng.choice(NUMBERS[form])
        if at + 4 <= len(inside):
            struct.pack_into(f"<{form}", inside, at, value)
            said.append(f"{field}={value}")
    kind = rng.random()
    if kind < 0.1:
        del inside[rng.randrange(len(inside)) :]
        said.append("cut")
    files[name] = gzip.compress(bytes(inside), 1, mtime=0) if packed else bytes(inside)
    return f"{name}: {', '.join(said)}"


# --- JSON ------------------------------------------------------------------------------------------------------------

HOSTILE_JSON: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 255, 256, 1.5, -0.0, 1e308, 10**30, 10**400, float("nan"), float("inf"), "",
    " ", "0", "nan", "1e30", "a\nb", "\ud800", "\0", "x" * 5000, "é" * 300, "../..", "/dev/zero", [], {},
    [1], [[]], {"a": 1},
    "yes", "no", "false", "²", "\uff11", "true", [None], {"1": {}},
)  # fmt: skip


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [pair for key in keys for pair in [(value, key), *nodes(value[key])]]


def change_json(rng: random.Random, files: Files) -> str | None:
    """Another type, a key too few or twice, numbers without end, nesting without end, text that is none."""
    name = pick(rng, files, (".json",))
    if not name:
        return None
    try:
        content = json.loads(files[name])
        places = nodes(content)
    except (ValueError, RecursionError):  # damaged already
        return None
    if not places:
        return None
    owner, key = rng.choice(places)
    how = rng.choice(("value", "value", "value", "key", "remove", "double", "whole", "deep", "text", "digits"))
    text = None
    if how == "value":
        owner[key] = rng.choice(HOSTILE_JSON)
    elif how == "remove":
        del owner[key]
    elif how == "key" and isinstance(owner, dict):
        owner[rng.choice(("-1", "256", "1", "01", " 1", "1.0", "²", "1_0", "", "x\ny", "9" * 5000))] = owner.pop(key)
    elif how == "double" and isinstance(owner, dict):
        mark = "\x01twin"
        owner[mark] = rng.choice((owner[key], *HOSTILE_JSON))
        text = json.dumps(content).replace(json.dumps(mark), json.dumps(key))
    elif how == "whole":
        text = json.dumps(rng.choice(HOSTILE_JSON))
    elif how == "deep":
        owner[key] = "\x01deep"
        left, right = rng.choice((("[", "]"), ('{"a":', "}")))
        depth = rng.choice((50, 2000, 100000))
        text = json.dumps(content).replace(json.dumps("\x01deep"), left * depth + "1" + right * depth)
    elif how == "digits":
        owner[key] = "\x01digits"
        text = json.dumps(content).replace(
            json.dumps("\x01digits"), rng.choice(("1" * 6000, "1e999", "-0", "1E-999", "+1"))
        )
    data = (text if text is not None else json.dumps(content)).encode("utf-8", "surrogatepass")
    if how == "text":
        at = rng.randrange(len(data))
        data = rng.choice((data[:at] + b"\xff\xfe" + data[at:], b"\xef\xbb\xbf" + data, data.decode().encode("utf-16")))
    files[name] = data
    return f"{name}: {how} at {key!r}"[:200]


BYTES: tuple[Mutator, ...] = (flip_bits, set_run, truncate, insert, cut_out)
DICOM: tuple[Mutator, ...] = (
    *BYTES, change_one, change_one, change_one, change_several, duplicate_element, damage_sequence, damage_lengths,
    damage_codestream, shuffle_files,
)  # fmt: skip
NIFTI: tuple[Mutator, ...] = (*BYTES, change_nifti, change_nifti, change_nifti, change_nifti)
JSON: tuple[Mutator, ...] = (*BYTES, change_json, change_json, change_json, change_json, change_json)
