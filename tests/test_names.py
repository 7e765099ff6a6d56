"""Public names of sarco/: one meaning each."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import sarco

PACKAGE = Path(sarco.__file__).parent
ON_PURPOSE = {
    "main": "each command is started by the main of its module",
    "COMMANDS": "what each command is for its parser, its help and the documents",
    "Mask": "an array of bool everywhere; phantom and compare share nothing else that a module could stand for",
}


def names_of(target: ast.expr) -> Iterator[str]:
    """The names that an assignment binds."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Tuple):
        for element in target.elts:
            yield from names_of(element)


def defined_in(source: str) -> set[str]:
    """Functions, classes and constants at the top of a module, without private ones."""
    names: set[str] = set()
    for statement in ast.parse(source).body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(statement.name)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names.update(name for target in targets for name in names_of(target))
    return {name for name in names if not name.startswith("_")}


def defined_twice(sources: dict[str, str]) -> dict[str, list[str]]:
    """Public names that several modules define, and these modules."""
    places = defaultdict(list)
    for module, source in sorted(sources.items()):
        for name in defined_in(source):
            places[name].append(module)
    return {name: modules for name, modules in places.items() if len(modules) > 1}


def test_a_public_name_is_defined_once() -> None:
    """Catches one name for two things: whoever reads `AIR_HU` or `summarise` would have to look where it comes from."""
    sources = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert len(sources) > 50
    new = {name: modules for name, modules in defined_twice(sources).items() if name not in ON_PURPOSE}
    assert not new, f"give each its own name, or say in ON_PURPOSE why not: {new}"


def test_names_of_every_kind_are_seen() -> None:
    """Catches a search that overlooks a kind of definition, and one that takes imports for definitions."""
    one = "from b import shared\nAIR, BONE = 1, 2\nWALL: int = 3\nclass Kind: pass\ndef read(): inner = 1\n_own = 1\n"
    two = "AIR = 2\nWALL = 4\nKind = int\nasync def read(): pass\ninner = shared = 2\n_own = 3\n"
    found = defined_twice({"one": one, "two": two})
    assert found == {name: ["one", "two"] for name in ("AIR", "WALL", "Kind", "read")}
