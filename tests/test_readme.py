"""The documents against the code: flags, defaults, commands, make targets, modules; and what must not stand in them."""

import argparse
import ast
import contextlib
import importlib
import io
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

import export
from sarco import cache, doctor, measure_series, metrics, phantom, review
from sarco.core.parser import build, parse
from sarco.export import name_first

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
README = TEXTS["README.md"]
CONSUMERS: dict[str, tuple[type, ...]] = {
    "training.py": importlib.import_module("training").CONSUMERS,
    "inference.py": importlib.import_module("inference").CONSUMERS,
    "python -m sarco.export": (export.ExportOptions,),
}
NO_DEFAULT = {"run_id": {"training.py": "fresh 8 characters"}}  # said in words; `none` elsewhere
SHELL = {"&&", "&", "|", ">", "<", ";", "<<"}


def section(script: str) -> str:
    """The README's part with a script's flags."""
    found = re.search(rf"^### {re.escape(script)}\n(.*?)(?=^##)", README, re.DOTALL | re.MULTILINE)
    assert found, script
    return found[1]


def table(script: str) -> dict[str, str]:
    """What the README's table gives as default, by flag."""
    found = {}
    for line in section(script).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `--"):
            for name in re.findall(r"`--(\w+)`", cells[0]):
                assert name not in found, f"--{name} stands twice in {script}"
                found[name] = cells[1].strip("`")
    return found


def headings(script: str) -> dict[str, str]:
    """The heading that the README puts each flag under."""
    found, heading = {}, ""
    for line in section(script).splitlines():
        if bold := re.match(r"\| \*\*(.+)\*\* \|", line):
            heading = bold[1]
        elif flag := re.match(r"\| `--(\w+)`", line):
            found[flag[1]] = heading
    return found


def flags(script: str) -> dict[str, Any]:
    """Every flag of a script with its field, aliases too."""
    found = {}
    for consumer in CONSUMERS[script]:
        for item in fields(consumer):
            found[item.name] = item
            if item.metadata["alias"]:
                found[item.metadata["alias"]] = item
    return found


def as_shown(value: Any) -> str:
    """A default as ``-h`` shows it; `none` where it shows none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "", (), MISSING) else str(value)


@pytest.mark.parametrize("script", CONSUMERS)
def test_every_flag_stands_in_the_readme_with_its_default(script: str) -> None:
    """Catches a flag nobody told of, one that is gone, and a default that changed."""
    expected = {
        name: NO_DEFAULT.get(name, {}).get(script, as_shown(item.default)) for name, item in flags(script).items()
    }
    assert table(script) == expected


def test_flags_of_training_stand_under_their_headings() -> None:
    """Catches a reader who looks in ``-h`` where the README said, and does not find it."""
    assert headings("training.py") == {name: item.metadata["group"] for name, item in flags("training.py").items()}


@pytest.mark.parametrize("script", CONSUMERS)
def test_choices_stand_in_the_readme(script: str) -> None:
    """Catches a choice that one can make only by reading the code."""
    for name, item in flags(script).items():
        row = next(line for line in section(script).splitlines() if re.match(rf"\|.*`--{name}`", line))
        if "as in training" in row:
            row = next(line for line in section("training.py").splitlines() if line.startswith(f"| `--{name}`"))
        words = [word for word in item.metadata["choices"] if not re.fullmatch(r"efficientnet-b[1-6]", word)]
        assert all(f"`{word}`" in row for word in words), f"{script} --{name}"


def test_flags_of_the_phantom() -> None:
    """Catches the same for the phantom, whose parser is its own."""
    actions = [action for action in phantom._parser()._actions if action.option_strings]
    shown = {
        action.option_strings[-1].removeprefix("--"): str(action.default)
        for action in actions
        if action.default is not argparse.SUPPRESS
    }
    assert table("python -m sarco.phantom") == shown


def test_flags_of_the_doctor() -> None:
    """Catches the same for the doctor; the flag by which it calls sarco is nobody else's."""
    actions = [action for action in doctor._parser()._actions if action.option_strings]
    shown = {
        action.option_strings[-1].removeprefix("--"): as_shown(action.default)
        for action in actions
        if action.default is not argparse.SUPPRESS and action.help is not argparse.SUPPRESS
    }
    assert table("python -m sarco.doctor") == shown


def test_flags_of_measuring_a_mask() -> None:
    """Catches a flag of the command that neither its own table nor that of inference.py has."""
    own, shared = table("python -m sarco.measurements"), table("inference.py")
    for action in measure_series._parser()._actions:
        name = action.option_strings[-1].removeprefix("--") if action.option_strings else ""
        if name and action.default is not argparse.SUPPRESS and name != "debug":
            assert (own if name in own else shared)[name] in (as_shown(action.default), str(action.default))


def test_flags_of_the_cache() -> None:
    """Catches the same for the cache, whose parser is its own."""
    actions = [action for action in cache._parser()._actions if action.option_strings]
    shown = {
        action.option_strings[-1].removeprefix("--"): as_shown(action.default)
        for action in actions
        if action.default is not argparse.SUPPRESS
    }
    assert table("python -m sarco.cache") == shown


def test_no_document_names_a_flag_that_does_not_exist() -> None:
    """Catches a flag that was renamed or only planned."""
    known = {name for script in CONSUMERS for name in flags(script)} | {"debug"}
    known |= {
        name
        for module in ("phantom", "doctor", "metrics", "measurements", "review", "cache")
        for name in table(f"python -m sarco.{module}")
    }
    for name, text in TEXTS.items():
        named = set(re.findall(r"(?<![\w-])--([a-z]\w*)", re.sub(r"`--flag(=| )value`", "", text)))
        assert named <= known, f"{name}: {sorted(named - known)}"


def shell_lines() -> Iterator[tuple[str, str]]:
    """Every line of every bash block, with the document it stands in."""
    for name, text in TEXTS.items():
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            yield from ((name, line) for line in block.replace("\\\n", " ").splitlines())


def commands(start: str) -> list[list[str]]:
    """The words after ``python <start>`` of each command in a bash block."""
    found = []
    for _, line in shell_lines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words = list(lexer) if start in line else []
        for place in range(len(words)):
            if words[place] == "python" and " ".join(words[place + 1 :]).startswith(start):
                rest = words[place + 1 + len(start.split()) :]
                end = next((i for i, word in enumerate(rest) if word in SHELL), len(rest))
                found.append(rest[:end])
    return found


@pytest.mark.parametrize("script", CONSUMERS)
def test_every_command_of_a_script_parses(script: str) -> None:
    """Catches an example that ends in an error about its own flags."""
    found = commands(script.removeprefix("python "))
    assert len(found) >= 2 if script == "training.py" else found
    for words in found:
        named = name_first(words) if script.endswith("export") else words
        typed = parse(named, CONSUMERS[script], script, "")
        for consumer in CONSUMERS[script]:
            build(consumer, typed)


def test_every_command_of_a_module_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches the same for the modules that are commands."""
    assert commands("-m sarco.phantom") and commands("-m sarco.metrics") and commands("-m sarco.doctor")
    for words in commands("-m sarco.doctor"):
        typed = doctor._parser().parse_args(words)
        assert set(typed.fault or []) <= doctor.FAULTS.keys()
        assert [doctor.Reader.from_flag(text) for text in typed.reader or []] or not typed.reader
    assert commands("-m sarco.cache")
    for words in commands("-m sarco.cache"):
        cache._parser().parse_args(words)
    for words in commands("-m sarco.phantom"):
        phantom._parser().parse_args(words)
    assert commands("-m sarco.measurements")
    for words in commands("-m sarco.measurements"):
        measure_series._parser().parse_args(words)
    assert commands("-m sarco.review")
    for words in commands("-m sarco.review"):
        review._parser().parse_args(words)
    seen: list[tuple[Path, Path]] = []
    monkeypatch.setattr(metrics, "compare_label_maps", lambda *paths: seen.append(paths) or {})
    for words in commands("-m sarco.metrics"):
        metrics.main(words)
    assert all(path.name.endswith(".nii.gz") for pair in seen for path in pair)


def test_no_other_command_of_the_project_is_named() -> None:
    """Catches an example with a script or a module that does not exist."""
    for name, line in shell_lines():
        for words in re.findall(r"\bpython (-m \S+|\S+\.py)", line):
            known = [
                *(script.removeprefix("python ") for script in CONSUMERS),
                "-m sarco.phantom",
                "-m sarco.cache",
                "-m sarco.metrics",
                "-m sarco.doctor",
                "-m sarco.dicom",
                "-m sarco.measurements",
                "-m sarco.review",
                "-m pytest",
            ]
            assert words in known, f"{name}: {line}"


def test_python_in_the_readme_compiles() -> None:
    """Catches a slip in the few lines that compare two checkpoints."""
    blocks = re.findall(r"<<'END'\n(.*?)^END$", README, re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        ast.parse(block)


def test_every_make_target_exists() -> None:
    """Catches a target that was renamed, and one that nobody told of."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set()
    for text in TEXTS.values():
        code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^```bash\n(.*?)^```", text, re.S | re.M)])
        for words in re.findall(r"\bmake((?: [a-z]+)+)", code):
            named |= set(words.split())
    assert named == targets


def test_the_two_commands_come_first() -> None:
    """Catches a newcomer who has to read before something runs."""
    first = re.search(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert first and first[1].split("\n")[:2] == ["make demo", "make test"]
    assert README.index("![") < first.start()


def layout() -> set[str]:
    """Files and folders that ARCHITECTURE.md draws."""
    block = re.search(r"^## The modules\n+```\n(.*?)^```", TEXTS["ARCHITECTURE.md"], re.DOTALL | re.MULTILINE)
    assert block
    found, folder = set(), ""
    for line in block[1].splitlines():
        inside = line.startswith("  ")
        cells = re.split(r"\s{2,}", line.strip())
        names = cells if all(re.fullmatch(r"[\w.-]+", cell) for cell in cells) else cells[:1]
        found |= {folder * inside + name for name in names}
        if not inside:
            folder = names[0] if names[0].endswith("/") else ""
    return found


def test_the_layout_is_the_tree() -> None:
    """Catches a module that came, went or moved without the picture."""
    drawn = layout()
    assert {name for name in drawn if not (ROOT / name).exists()} == set()
    tree = {
        str(path.relative_to(ROOT)) for folder in (".", "sarco", "benchmarks") for path in (ROOT / folder).glob("*.py")
    }
    assert tree == {name for name in drawn if name.endswith(".py") and not name.startswith("tests/")}


def test_every_dependency_has_its_reason() -> None:
    """Catches a package that came or went without a word."""
    files = ("requirements.txt", "requirements-fast.txt")
    lines = [line for name in files for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    needed = {re.split(r"[=<>]", line)[0] for line in lines if line and not line.startswith("#")}
    part = README.split("## Dependencies, and why each")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE)) == needed


def test_the_sampling_rule_is_the_code_s() -> None:
    """Catches a rule for rare labels that the README tells with old numbers."""
    from sarco.sampling import MOST_REPEATS, RARE_SHARE

    assert f"√({RARE_SHARE:g} / *f*)" in README
    assert f"at least 1 and at most {MOST_REPEATS:g}." in " ".join(README.split())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_pictures_lead_somewhere(name: str) -> None:
    """Catches a link to a file that is not there."""
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[name]):
        if not target.startswith("https://"):
            assert (ROOT / target).is_file(), target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_hold_no_machine_paths(name: str) -> None:
    """Catches a path or a placeholder of the machine that a document was written on."""
    found = re.search(r"(?<![\w.])/(work|tmp|home|root|Users|mnt|usr|opt)\b|TODO|TBD|XXX|\.\./shared", TEXTS[name])
    assert not found, found


def test_help_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a table that is right about the fields while ``-h`` shows something else."""
    for script in CONSUMERS:
        monkeypatch.setattr(sys, "argv", [script, "-h"])
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
            runpy.run_path(str(ROOT / script if script.endswith(".py") else ROOT / "export.py"), run_name="__main__")
        text = " ".join(shown.getvalue().split())
        for name, default in table(script).items():
            assert f"--{name} " in text or f"--{name}," in text
            if default != "none":
                assert f"(default: {default})" in text, f"{script} --{name}"
