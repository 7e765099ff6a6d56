"""Builds the wheel: the root's modules go inside the package, as `sarco.project`.

In a checkout ``import training`` finds the root's ``training.py``. Installed like that, `model`, `training` and
`transforms` would hide everybody else's modules of these names, or be hidden by them. So the wheel carries the root's
modules as ``sarco/project/*.py``, and on the way into the wheel every import of one of them is rewritten:

    import training as t                    ->  from sarco.project import training as t
    from model import SarcoModel            ->  from sarco.project.model import SarcoModel
    runpy.run_module("training")            ->  runpy.run_module("sarco.project.training")

The table of the root's modules stands in pyproject.toml, ``modules`` of this hook. What cannot be rewritten ends the
build. The checkout, the sdist and editable installs keep the plain names; nothing is rewritten there.
"""

import ast
import re
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROJECT = "sarco.project"
DOCSTRING = '"""The Lightning project: in a checkout these modules lie in its root, under their plain names."""\n'
# Functions that import what their first argument names, and whether a longer name there means the same to them.
BY_NAME = {"import_module": True, "find_spec": True, "run_module": True, "__import__": False, "resolve_name": False}


class WheelError(Exception):
    """The wheel would not work; the message names the line and what to do."""


class ProjectHook(BuildHookInterface):
    """What hatchling calls before and after it packs a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Lays out the files that differ from the checkout, and has them packed instead.

        Args:
            version: "standard", or "editable": an install that only points at the checkout.
            build_data: hatchling's; ``force_include`` takes files by their path in the wheel.

        Raises:
            WheelError: see `project_files`.
        """
        if version == "editable":
            return
        self._scratch = tempfile.TemporaryDirectory(prefix="sarco-wheel-")
        for place, content in project_files(Path(self.root), self.config["modules"]).items():
            file = Path(self._scratch.name, place)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            build_data["force_include"][str(file)] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes what `initialize` laid out."""
        if version != "editable":
            self._scratch.cleanup()


def project_files(root: Path, modules: Collection[str]) -> dict[str, bytes]:
    """The files of the wheel that are not in the checkout as they are, by their path in the wheel.

    Args:
        root: of the checkout or the unpacked sdist.
        modules: names of the root's modules.

    Raises:
        WheelError: a module is missing, or is imported in a way that cannot be rewritten.
    """
    folder = PROJECT.replace(".", "/")
    if (root / folder).exists() or (root / f"{folder}.py").exists():
        raise WheelError(f"{folder}: is made for the wheel, so the checkout cannot have it; choose another name")
    in_root = {path.stem for path in root.glob("*.py")}
    for name in sorted(set(modules) - in_root):
        raise WheelError(f"{name}.py: is in the table of modules in pyproject.toml, but not in {root}")
    files = {f"{folder}/__init__.py": DOCSTRING.encode()}
    for name in sorted(modules):
        files[f"{folder}/{name}.py"] = rewrite((root / f"{name}.py").read_bytes(), f"{name}.py", modules, in_root)
    for path in sorted((root / "sarco").rglob("*.py")):
        before, place = path.read_bytes(), path.relative_to(root).as_posix()
        after = rewrite(before, place, modules, in_root)
        if after != before:
            files[place] = after
    return files


def rewrite(source: bytes, name: str, modules: Collection[str], in_root: Collection[str]) -> bytes:
    """A module's source in which the root's modules are imported from `sarco.project`; other bytes stay.

    Args:
        source: UTF-8.
        name: of the file, for messages.
        modules: the root's modules that the wheel carries.
        in_root: all modules that a plain import would find in the root.

    Raises:
        WheelError: one is imported in a way that cannot be rewritten, or is not carried.
    """
    begins = [0]
    for line in source.splitlines(keepends=True):
        begins.append(begins[-1] + len(line))
    pieces, done = [], 0
    places = (place for node in ast.walk(ast.parse(source, name)) for place in _imports(node))
    for place, imported in sorted(places, key=lambda found: (found[0].lineno, found[0].col_offset)):
        named = [module for module in imported if re.split("[.:]", module)[0] in {*modules, *in_root}]
        if not named:
            continue
        assert place.end_lineno is not None and place.end_col_offset is not None
        begin = begins[place.lineno - 1] + place.col_offset
        end = begins[place.end_lineno - 1] + place.end_col_offset
        after = _rewritten(place, source[begin:end], modules) if set(named) <= set(modules) else None
        if after is None:
            raise WheelError(
                f"{name}:{place.lineno}: the wheel cannot carry this import of {', '.join(named)}; write 'import NAME' "
                "or 'from NAME import ...', with a NAME from the table of modules in pyproject.toml"
            )
        pieces += [source[done:begin], after]
        done = end
    return b"".join([*pieces, source[done:]])


def _imports(node: ast.AST) -> Iterator[tuple[ast.stmt | ast.expr, list[str]]]:
    """What a node imports by full names, with the place to rewrite: the statement, or the string in a call."""
    match node:
        case ast.Import(names=names):
            yield node, [alias.name for alias in names]
        case ast.ImportFrom(level=0, module=str(module)):
            yield node, [module]
        case ast.Call(func=ast.Name(id=function) | ast.Attribute(attr=function), args=[place, *_]):
            if isinstance(place, ast.Constant) and isinstance(place.value, str) and function in BY_NAME:
                yield (place if BY_NAME[function] else node), [place.value]


def _rewritten(place: ast.AST, before: bytes, modules: Collection[str]) -> bytes | None:
    """The text of a place that names the root's modules, with their names in the wheel; None where that cannot be."""
    match place:
        case ast.ImportFrom(module=module):
            pattern = rf"(from(?:[ \t\f]|\\\r?\n)+){module}\b".encode()
            found = re.match(pattern, before)
            return found and found[1] + f"{PROJECT}.{module}".encode() + before[found.end() :]
        case ast.Import(names=names):
            imports = [("import ", f"from {PROJECT} import ")[one.name in modules] + ast.unparse(one) for one in names]
            return "; ".join(imports).encode()
        case ast.Constant(value=str(module)) if before[1:-1] == module.encode():
            return f'"{PROJECT}.{module}"'.encode()
    return None
