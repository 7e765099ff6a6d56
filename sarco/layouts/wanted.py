"""Which labels are learnt, and under which number: what ``--labels`` and ``--missing_labels`` say.

Data sets number their structures each in its own way, or not at all where a file stands for each. Without ``--labels``
numbers stay as they are in the files, and structures that have none get those that are free, in order of their names.
With it, labels are 1, 2, ... in the order in which they were typed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sarco.core.errors import InputError, OptionError
from sarco.core.training_options import BACKGROUND, IGNORE
from sarco.layouts.case import FoundCase
from sarco.layouts.labels import MAP, LabelFile, LabelSource
from sarco.layouts.names import two_names
from sarco.layouts.saros import SAROS
from sarco.scan.labels import BACKGROUND_ID, IGNORE_ID

_MOST_LABELS = IGNORE_ID - 1
_MOST_LISTED = 30


@dataclass(frozen=True)
class WantedLabel:
    """A label of the training.

    Attributes:
        name: what it is called.
        parts: names or ids of the structures that it is made of.
    """

    name: str
    parts: tuple[str, ...]


def parse_labels(text: str) -> tuple[WantedLabel, ...]:
    """What ``--labels`` means.

    >>> parse_labels("psoas,back=autochthon_left+autochthon_right")[1]
    WantedLabel(name='back', parts=('autochthon_left', 'autochthon_right'))

    Raises:
        OptionError: a name is empty, or comes twice.
    """
    found = []
    for item in text.split(",") if text else ():
        name, equals, right = item.partition("=")
        parts = tuple(part.strip() for part in (right if equals else name).split("+"))
        if not name.strip() or not all(parts):
            raise OptionError(f"--labels={text}: a name is missing; write it as in psoas,back=left_part+right_part")
        found.append(WantedLabel(name.strip(), parts))
    for what, names in (("name", [one.name for one in found]), ("structure", [p for one in found for p in one.parts])):
        if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
            raise OptionError(f"--labels={text}: the {what} {twice} comes twice; keep one of them")
    return tuple(found)


def settle_labels(
    cases: Sequence[FoundCase], labels: str = "", missing: str = BACKGROUND
) -> tuple[tuple[FoundCase, ...], dict[int, str]]:
    """The cases with their labels renumbered, and the names of the labels.

    Args:
        cases: as they were found.
        labels: as ``--labels`` was typed; empty for all.
        missing: what pixels without a label are in a case that has no file, or no id, for one of the labels:
            `BACKGROUND` or `IGNORE`.

    Raises:
        InputError: two folders give one id two names, or one name two ids; or there are too many labels.
        OptionError: no case has what ``labels`` names.
    """
    wanted = parse_labels(labels)
    if not wanted:
        cases = [_only_regions(case) for case in cases]
    own = _number_structures(cases, strict=not wanted)
    if wanted:
        _check_wanted(wanted, labels, cases, own)
        names = {number: one.name for number, one in enumerate(wanted, start=1)}
    else:
        names = _names_of_ids(cases, own)
    settled = [_settle(case, wanted, own, names, missing) for case in cases]
    return tuple(settled), names


def _only_regions(case: FoundCase) -> FoundCase:
    """A case of SAROS with its first label map alone: the second labels every pixel once more."""
    if case.layout != SAROS:
        return case
    return replace(case, labels=replace(case.labels, files=case.labels.files[:1]))


def _files_of(cases: Iterable[FoundCase]) -> list[LabelFile]:
    return [file for case in cases for file in case.labels.files]


def _number_structures(cases: Sequence[FoundCase], strict: bool) -> dict[str, int]:
    """A number for each structure that has a file, or a segment, but no number of its own.

    Args:
        cases: all there are.
        strict: whether numbers of label maps without names could be in the way.
    """
    files = _files_of(cases)
    maps = [file for file in files if file.kind == MAP]
    known: dict[str, int] = {}
    for file in files:
        for label_id, name in file.names if file.kind == MAP else file.numbers:
            known.setdefault(name, label_id)
    loose = sorted({name for file in files if file.kind != MAP for _, name in file.names})
    nameless = next((file for file in maps if not file.names), None)
    if strict and loose and nameless:
        raise InputError(
            f"{nameless.path}: its ids have no names, so nobody can say which of them are {loose[0]} and others that "
            "have files of their own; name them in labels.json beside it"
        )
    free = (number for number in range(1, 10**6) if number not in known.values())
    return {name: known[name] if name in known else next(free) for name in loose}


def _names_of_ids(cases: Sequence[FoundCase], own: Mapping[str, int]) -> dict[int, str]:
    """The names of all ids.

    Raises:
        InputError: they contradict each other, or are too many.
    """
    names: dict[int, str] = {}
    id_of: dict[str, int] = {}
    where: dict[int, Path] = {}
    for file in _files_of(cases):
        for stored_id, name in file.names:
            label_id = stored_id if file.kind == MAP else own[name]
            place = file.named_in or file.path
            if names.setdefault(label_id, name) != name and label_id != BACKGROUND_ID:
                raise InputError(two_names(label_id, names[label_id], where[label_id], name, place))
            where.setdefault(label_id, place)
            if label_id != BACKGROUND_ID and id_of.setdefault(name, label_id) != label_id:
                raise InputError(
                    f"{where[id_of[name]]} gives {name!r} the id {id_of[name]}, {place} the id {label_id}; use one "
                    "numbering, or pick labels by their names with --labels"
                )
    if max(own.values(), default=0) > _MOST_LABELS:
        held = len(names)
        raise InputError(
            f"{held} structures are more than the {_MOST_LABELS} that a label map holds; pick with --labels"
        )
    return dict(sorted(names.items()))


def _ids_of_part(part: str, file: LabelFile, own: Mapping[str, int]) -> list[int]:
    """The ids in a file that a typed name or id means."""
    by_name = [label_id for label_id, name in file.names if name.casefold() == part.casefold()]
    if by_name or not part.isdecimal():
        return by_name
    if file.kind != MAP:
        return [label_id for label_id, name in file.names if own[name] == int(part)]
    return [int(part)] if not file.names or int(part) in dict(file.names) else []


def _check_wanted(
    wanted: Sequence[WantedLabel], typed: str, cases: Sequence[FoundCase], own: Mapping[str, int]
) -> None:
    files = _files_of(cases)
    for part in (part for one in wanted for part in one.parts):
        if part.isdecimal() and not 0 < int(part) < IGNORE_ID:
            raise OptionError(f"--labels={typed}: {part} is no label id (1 to 254); correct it")
        if part.isdecimal():
            _check_one_meaning(part, typed, files)
        if not any(_ids_of_part(part, file, own) for file in files):
            there = sorted({name for file in files for _, name in file.names})
            more = f" and {len(there) - _MOST_LISTED} more" if len(there) > _MOST_LISTED else ""
            told = f"there are {', '.join(there[:_MOST_LISTED])}{more}" if there else "no label map names its ids"
            raise OptionError(f"--labels={typed}: no case has {part}; {told}")


def _check_one_meaning(part: str, typed: str, files: Iterable[LabelFile]) -> None:
    """Raises where an id that was typed has two names."""
    meant: dict[str, LabelFile] = {}
    for file in files:
        if file.kind == MAP and int(part) in dict(file.names):
            meant.setdefault(dict(file.names)[int(part)], file)
    if len(meant) > 1:
        (one, first), (other, second) = list(meant.items())[:2]
        told = two_names(int(part), one, first.named_in or first.path, other, second.named_in or second.path)
        raise OptionError(f"--labels={typed}: {told}")


def _settle(
    case: FoundCase, wanted: Sequence[WantedLabel], own: Mapping[str, int], names: Mapping[int, str], missing: str
) -> FoundCase:
    """A case whose files give the numbers of the training."""
    id_of = [(file, _renumbering(file, wanted, own)) for file in case.labels.files]
    if wanted:
        parts = [part for one in wanted for part in one.parts]
        is_whole = all(any(_ids_of_part(part, file, own) for file in case.labels.files) for part in parts)
    else:
        held = {name for file in case.labels.files for _, name in file.names}
        is_whole = set(names.values()) <= held or any(file.kind == MAP and not file.names for file, _ in id_of)
    beyond = IGNORE_ID if missing == IGNORE and not is_whole else BACKGROUND_ID
    used = [(file, ids) for file, ids in id_of if ids or (not wanted and file.kind == MAP)]
    used.sort(key=lambda pair: min(pair[1].values(), default=0))
    files = tuple(_renumbered(file, ids, bool(wanted), beyond) for file, ids in used)
    return replace(case, labels=LabelSource(case.labels.path, files, beyond))


def _renumbering(file: LabelFile, wanted: Sequence[WantedLabel], own: Mapping[str, int]) -> dict[int, int]:
    """The id in the training for ids in a file.

    Raises:
        InputError: one id belongs to two labels, as those of nnU-Net's regions may.
    """
    numbered = [
        (label_id, number, one.name)
        for number, one in enumerate(wanted, start=1)
        for part in one.parts
        for label_id in _ids_of_part(part, file, own)
    ]
    if not wanted:
        numbered = [(stored, stored if file.kind == MAP else own[name], name) for stored, name in file.names]
    meant: dict[int, tuple[int, str]] = {}
    for label_id, number, name in numbered:
        other = meant.setdefault(label_id, (number, name))
        if other[0] != number:
            raise InputError(
                f"{file.named_in or file.path}: id {label_id} belongs to {other[1]} and to {name}, but a pixel has one "
                "label; pick one of the two with --labels"
            )
    return {label_id: number for label_id, (number, _) in meant.items()}


def _renumbered(file: LabelFile, ids: Mapping[int, int], picked: bool, beyond: int) -> LabelFile:
    """A file with a table from its ids to those of the training, where they differ.

    Args:
        file: as it was found.
        ids: the id in the training by the id in the file.
        picked: whether ids that ``ids`` lacks are left out.
        beyond: what stands where a structure may be that has no file.
    """
    if file.kind == MAP and not picked and file.ignored is None and not beyond:
        return file
    if file.kind == MAP and not picked:
        ids = {label_id: label_id for label_id in range(1, IGNORE_ID)} | dict(ids)
    return file.renumbered({**ids, BACKGROUND_ID: beyond}, beyond)
