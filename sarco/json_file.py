"""Reads JSON that anybody may have written: what is damaged or says two things at once is refused in one line."""

import json
from pathlib import Path
from typing import Any

from sarco.errors import InputError
from sarco.messages import reason_of, shown

_LARGEST_BYTES = 2**28  # a results file of 100,000 slices has a tenth of this


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, with or without the mark that some editors put in front.

    Raises:
        InputError: the file cannot be read, is no JSON, is nested without end, or an object of it has a key twice, so
            that programs differ in what they see.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ValueError("larger than any that sarco writes")
        return json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_each_key_once)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply to be read; correct it") from None
    except ValueError as error:  # no UTF-8 and no JSON are of this kind too
        raise InputError(f"{path}: cannot be read as JSON ({reason_of(error)}); correct it") from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise ValueError(f"the key {shown(twice)} stands there twice")
    return content
