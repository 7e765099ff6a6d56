"""Label ids, names and colours: one table, read from ``labels.json`` and carried in every checkpoint."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from sarco.core.errors import InputError
from sarco.core.files import read_json
from sarco.core.messages import shown

BACKGROUND_ID = 0
IGNORE_ID = 255  # nobody looked at this pixel: left out of loss and scores, so that sparse labels can be used

# Okabe & Ito's palette (RGB), told apart under the common colour-vision deficiencies; then lighter and darker ones, so
# that sets of ten muscle groups need no colour twice. Ids beyond it start over.
COLOURS_RGB: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (153, 153, 51),
    (170, 102, 255),
    (255, 170, 170),
    (140, 230, 140),
    (190, 190, 190),
)


LEFT, RIGHT = "left", "right"
# What the name of 255 may say where it stands for what sarco takes it for, and for no structure.
_UNSEEN = re.compile(
    r"(ignor|exclu|void|unknown|unsure|uncertain|unseen|unlabel|unannot|not? (label|look|annot|seen)|nobody|invalid)"
)
_OTHER = {LEFT: RIGHT, RIGHT: LEFT}
# Words of other languages that stand for muscles too are not among them: "droit" is rectus, unless it ends a name.
_SIDE_WORDS = dict.fromkeys(
    [
        "left",
        "links",
        "linke",
        "linker",
        "linkes",
        "sinister",
        "sinistra",
        "sinistrum",
        "sinistro",
        "gauche",
        "izquierdo",
        "izquierda",
        "esquerdo",
        "esquerda",
        "vänster",
        "venstre",
        "lewy",
        "lewa",
        "левый",
        "левая",
        "左",
        "sx",
        "lft",
        "lhs",
        "izq",
        "izdo",
        "izda",
    ],
    LEFT,
)
_SIDE_WORDS |= dict.fromkeys(
    [
        "right",
        "rechts",
        "rechte",
        "rechter",
        "rechtes",
        "dexter",
        "dextra",
        "dextrum",
        "destro",
        "destra",
        "droite",
        "derecho",
        "derecha",
        "direito",
        "direita",
        "höger",
        "højre",
        "prawy",
        "prawa",
        "правый",
        "правая",
        "右",
        "dx",
        "rgt",
        "rhs",
        "dcho",
        "dcha",
    ],
    RIGHT,
)
_SHORT_SIDES = {"l": LEFT, "lt": LEFT, "lh": LEFT, "r": RIGHT, "rt": RIGHT, "rh": RIGHT}
_LAST_SIDES = dict.fromkeys(["li", "sin", "esq"], LEFT) | dict.fromkeys(
    ["re", "dex", "dext", "der", "dir", "droit"], RIGHT
)  # elsewhere they may be anything
_RECTUS = {"grand", "muscle", "m"}  # before "droit": the muscle, not the side
_GLUED_SIDE = re.compile(r"(left|right|links|rechts)?([^\W\d_]{3,}?)(left|right|links|rechts)?")
_STRUCTURE = (
    "(?:ilio)?psoas|iliacus|rectus|quadratus|erector|multifidus|multifidi|paraspinals?|autochthon|glute(?:us|i)|"
    "transversus|obliques?|obliquus|muscles?|kidney"
)
_GLUED_LETTER = re.compile(rf"([lr])?({_STRUCTURE})([lr])?")  # lpsoas, psoasr
# Letters that may be left and right in some language, but may as well be anything.
_MAYBE_SIDES = [{"l", "r"}, {"g", "d"}, {"i", "d"}, {"s", "d"}, {"e", "d"}, {"v", "h"}]
_NEW_WORD = re.compile(r"(?<=[a-zß-ÿ])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # psoasLeft, LPsoas
_WORD_BREAK = re.compile(r"[\s_]+|(?<=\w)-(?=\w)")
_WORD = re.compile(r"[^\W\d_]+|\d+")


def read_side(name: str) -> tuple[tuple[str, ...], str | None]:
    """The words of a label's name without its side, in small letters, and the side: `LEFT`, `RIGHT` or None.

    Capitals, what stands between words, and where the side stands do not matter. A name that says both sides says none,
    and the L of a vertebra is no side.

    >>> read_side("Psoas-Left"), read_side("R_psoas"), read_side("muscle L3")
    ((('psoas',), 'left'), (('psoas',), 'right'), (('muscle', 'l', '3'), None))
    """
    words = _words_of(name)
    sides = [_SIDE_WORDS.get(word) for word in words]
    found = {side for side in sides if side}
    last = max((place for place, word in enumerate(words) if not word.isdigit()), default=0)
    for place, word in enumerate(words):
        short = _SHORT_SIDES.get(word) or (_LAST_SIDES.get(word) if 0 < place == last else None)
        if word == "droit" and words[place - 1] in _RECTUS:
            short = None
        if words[place + 1 : place + 2] and words[place + 1].isdigit() and word == "l":  # a lumbar vertebra
            short = None
        if short and (not found or short in found):  # beside a whole word, "r" may stand for rectus
            sides[place] = short
    if len(found := {side for side in sides if side}) != 1:
        return tuple(words), None
    return tuple(word for word, side in zip(words, sides, strict=True) if not side), found.pop()


def _words_of(name: str) -> list[str]:
    """The words and numbers of a name; a whole word for a side is taken off the word that it is glued to."""
    words: list[str] = []
    for word in _WORD.findall(_NEW_WORD.sub(" ", name)):
        glued = None if word.lower() in _SIDE_WORDS else _GLUED_SIDE.fullmatch(word.lower())
        for part in filter(None, glued.groups()) if glued else [word.lower()]:
            letter = _GLUED_LETTER.fullmatch(part)
            words += filter(None, letter.groups()) if letter else [part]
    return words


def _may_be_sides(one: str, other: str) -> bool:
    """Whether two names differ only in what may be left and right, though nobody can be sure."""
    words = _words_of(one), _words_of(other)
    differing = [(a, b) for a, b in zip(*words, strict=False) if a != b]
    if len(words[0]) != len(words[1]) or len(differing) != 1:
        return False
    ((a, b),) = differing
    ends = ({a[0], b[0]}, a[1:], b[1:]), ({a[-1], b[-1]}, a[:-1], b[:-1])
    glued = any(letters == {"l", "r"} and rest == same and len(rest) > 2 for letters, rest, same in ends)
    return {a, b} in _MAYBE_SIDES or glued


@dataclass(frozen=True)
class LabelTable:
    """The foreground labels of a data set or a run.

    Attributes:
        names: label id (1..254) to name, in ascending order of id. Background (0) is not in it.
    """

    names: Mapping[int, str]

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("a label table needs at least one label besides the background")
        object.__setattr__(self, "names", dict(sorted(self.names.items())))

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids in ascending order; the k-th of them is channel k + 1 of the network."""
        return tuple(self.names)

    @property
    def n_channels(self) -> int:
        """Channels of the network's output: background and one a label."""
        return len(self.names) + 1

    def mirrored_channels(self) -> list[int]:
        """For each channel, background first, the one it becomes in a mirror: left and right of one name swap."""
        channel_of = {label_id: channel for channel, label_id in enumerate(self.ids, start=1)}
        partners = self._partners()
        return [0, *(channel_of[partners.get(label_id, label_id)] for label_id in self.ids)]

    def without_partner(self) -> list[str]:
        """Names that say a side, though no label, or more than one, has the same name with the other side."""
        partners = self._partners()
        return [name for label_id, name in self.names.items() if read_side(name)[1] and label_id not in partners]

    def maybe_sides(self) -> list[tuple[str, str]]:
        """Pairs of names without a side that differ only in what may be one: psoas_g and psoas_d."""
        names = [name for name in self.names.values() if not read_side(name)[1]]
        return [pair for pair in combinations(names, 2) if _may_be_sides(*pair)]

    def unnamed(self) -> list[int]:
        """The ids that nobody named."""
        return [label_id for label_id, name in self.names.items() if name == _stand_in(label_id)]

    def mirror_doubt(self) -> str:
        """Why nobody can say what each label is in a mirror image; empty where it is certain."""
        if lonely := self.without_partner():
            return f"{', '.join(map(repr, lonely))} of one side"
        if maybe := self.maybe_sides():
            return "{!r} and {!r} may be left and right".format(*maybe[0])
        unnamed = self.unnamed()
        return f"labels {', '.join(map(str, unnamed))} have no names" if len(unnamed) > 1 else ""

    def _partners(self) -> dict[int, int]:
        """For each label that has one, the id of its mirror image."""
        read = {label_id: read_side(name) for label_id, name in self.names.items()}
        count = Counter(read.values())
        id_of = {(words, side): i for i, (words, side) in read.items() if side and count[words, side] == 1}
        others = {i: id_of.get((words, _OTHER[side])) for (words, side), i in id_of.items()}
        return {label_id: other for label_id, other in others.items() if other is not None}

    def colour_rgb(self, label_id: int) -> tuple[int, int, int]:
        """The colour of a label, the same wherever it is drawn."""
        return COLOURS_RGB[self.ids.index(label_id) % len(COLOURS_RGB)]

    def to_builtins(self) -> dict[str, str]:
        """The table as a checkpoint or a JSON file holds it: id as text to name."""
        return {str(label_id): name for label_id, name in self.names.items()}

    @classmethod
    def from_builtins(cls, stored: Mapping[str, str]) -> "LabelTable":
        """The inverse of `to_builtins`."""
        return cls({int(label_id): str(name) for label_id, name in stored.items()})

    @classmethod
    def from_ids(cls, ids: Iterable[int], names: Mapping[int, str] | None = None) -> "LabelTable":
        """The table of the ids that were found, named where a name is known and ``label_<id>`` elsewhere."""
        known = names or {}
        return cls({int(i): known.get(int(i), _stand_in(int(i))) for i in ids if int(i) != BACKGROUND_ID})


def _stand_in(label_id: int) -> str:
    return f"label_{label_id}"


def refuse_structure_255(names: Mapping[int, str], path: Path) -> None:
    """Refuses names by which 255 is a structure, where it would count as "nobody looked".

    Args:
        names: from a ``labels.json``.
        path: where they or the label map come from, for the message.

    Raises:
        InputError: 255 has such a name.
    """
    if IGNORE_ID in names:
        raise InputError(
            f'{path}: 255 is called {names[IGNORE_ID]!r} in labels.json, but means "nobody looked" here and would '
            "count nowhere; give that structure another number"
        )


def read_label_names(path: Path) -> dict[int, str]:
    """Names by label id from a ``labels.json`` such as ``{"1": "psoas_left"}``; a missing file gives no names.

    A name of 255 is left out where it says that nobody looked ("ignore", "unlabelled"), which 255 means anyway.

    Raises:
        InputError: the file is no JSON object of whole numbers to names, or two ids share a name.
    """
    if not path.exists():
        return {}
    stored = read_json(path)
    if not isinstance(stored, dict):
        raise InputError(f'{path}: not a JSON object such as {{"1": "psoas_left"}}; correct it')
    names: dict[int, str] = {}
    for key, name in stored.items():
        label_id = int(key) if key.strip().isdecimal() and len(key) < 9 else -1
        if not BACKGROUND_ID <= label_id <= 255:
            raise InputError(f"{path}: label id {shown(key)} is no whole number in 0..255; renumber it")
        if not (isinstance(name, str) and name.strip() and name.isprintable()):
            raise InputError(f"{path}: the name of label id {label_id} is no text of one line; write it in quotes")
        if label_id in names:
            raise InputError(f"{path}: label id {label_id} stands there twice; keep one of them")
        names[label_id] = name
    if _UNSEEN.match(" ".join(_words_of(names.get(IGNORE_ID, "")))):
        del names[IGNORE_ID]
    id_of: dict[str, int] = {}
    for label_id, name in names.items():
        alike = " ".join(_WORD_BREAK.split(unicodedata.normalize("NFKC", name).casefold())).strip()
        if label_id != BACKGROUND_ID and (other := id_of.setdefault(alike, label_id)) != label_id:
            raise InputError(f"{path}: label ids {other} and {label_id} share the name {name!r}; give each its own")
    return names
