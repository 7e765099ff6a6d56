"""The documents against each other and against the files beside them; and what must not stand in them."""

import ast
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sarco.commands import SUMMARIES
from sarco.commands.table import PAGE, every_command, filled
from sarco.core.parser import Command, build

ROOT = Path(__file__).parents[1]
PAGES = tuple(sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", *PAGES)
FOR_USERS = ("README.md", "SECURITY.md", *PAGES)
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
SEPARATORS = {"&&", "||", "&", "|", ";"}
NOT_A_COMMAND = {"-h", "COMMAND"}  # of the one command itself, and where any command is meant
# Rates say "per": seconds per slice, not seconds a slice.
COUNTED = (
    "slices? steps? epochs? seconds? minutes? ms s GFLOP MB GB ml mg files? pixels errors? segments? rows? lines? "
    "draws? patients? batch batches samples? gradients? processes GPUs?"
)
OVER = "slice step epoch second minute series scan patient label batch machine file row ml side pass"
RATE = re.compile(
    rf"\b(?:{'|'.join(COUNTED.split())}) an? (?:forward )?(?:{'|'.join(OVER.split())})\b(?! of\b)", re.IGNORECASE
)


def prose(name: str) -> str:
    """A document without what a command wrote into it between two marks."""
    return re.sub(r"<!-- (\w+): begin -->.*?<!-- \1: end -->", "", TEXTS[name], flags=re.DOTALL)


def without_code(text: str) -> str:
    """A text without its fenced blocks, in which brackets and signs mean something else."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", prose(name), re.DOTALL | re.MULTILINE)


def shell_commands(name: str) -> Iterator[list[str]]:
    """The words of each command in the bash blocks of a document; what is fed to Python is left out."""
    for block in blocks(name, "bash"):
        shell = re.sub(r"<<'END'\n.*?^END$", "", block, flags=re.DOTALL | re.MULTILINE)
        for line in shell.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word not in SEPARATORS:
                    words.append(word)
                elif words:
                    yield words
                    words = []


def named_commands(name: str) -> Iterator[str]:
    """The command of each ``sarco COMMAND``, in blocks and within lines."""
    for words in shell_commands(name):
        if words[0] == "sarco":
            yield words[1] if len(words) > 1 else ""
    for code in re.findall(r"`sarco (\S+?)[` ]", " ".join(without_code(prose(name)).split())):
        yield code
    for code in re.findall(r"\bpython -m sarco (\w+)", prose(name)):
        yield code


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as forges and the site make them."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", without_code(text), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def links(name: str) -> list[str]:
    """The targets of all links and pictures of a document."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", without_code(TEXTS[name])))


@pytest.mark.parametrize("name", FOR_USERS)
def test_every_command_exists(name: str) -> None:
    """Catches an example with a command that was renamed or only planned."""
    assert set(named_commands(name)) <= SUMMARIES.keys() | NOT_A_COMMAND


def test_every_command_is_told_of() -> None:
    """Catches a command that one can only find by reading the code."""
    told = {command for name in PAGES for command in named_commands(name)}
    assert told >= SUMMARIES.keys()


@pytest.mark.parametrize("name", FOR_USERS)
def test_no_command_of_the_time_before_the_one_command(name: str) -> None:
    """Catches ``python -m sarco.module``, which is nobody's way in any more."""
    assert not re.findall(r"python -m sarco\.\w+", prose(name))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_blocks_parse(name: str) -> None:
    """Catches a quote or a bracket that is missing in an example."""
    for words in shell_commands(name):
        assert words
    for block in [*blocks(name, "python"), *re.findall(r"<<'END'\n(.*?)^END$", TEXTS[name], re.DOTALL | re.MULTILINE)]:
        ast.parse(block)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_anchors_lead_somewhere(name: str) -> None:
    """Catches a link to a page that moved, or to a heading that has another name now."""
    for target in links(name):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        page = (ROOT / name).parent / path if path else ROOT / name
        assert page.is_file(), target
        if anchor:
            assert anchor in anchors(page.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("name", PAGES)
def test_pages_link_to_pages_only(name: str) -> None:
    """Catches a link that works in the repository and is dead on the site, which holds docs/ alone."""
    local = [target.partition("#")[0] for target in links(name) if not target.startswith("https://")]
    assert [path for path in local if "/" in path] == []


def test_the_readme_leads_to_every_page() -> None:
    """Catches a page that nobody finds; the overview of the site is the README's own job."""
    linked = {target.partition("#")[0] for target in links("README.md")}
    assert set(PAGES) - {"docs/index.md"} <= linked


def test_the_site_shows_every_page() -> None:
    """Catches a page that the site leaves out, or a page in its menu that is gone."""
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1].split("\n\n")[0]
    assert {f"docs/{page}" for page in re.findall(r": (\S+\.md)$", menu, re.MULTILINE)} == set(PAGES)


def test_the_readme_is_short() -> None:
    """Catches a README that grows back into a manual."""
    text = TEXTS["README.md"]
    assert len(text.split()) < 2000
    assert len(text.splitlines()) <= 170


def test_the_two_commands_come_first() -> None:
    """Catches a newcomer who has to read before something runs."""
    assert blocks("README.md", "bash")[0].split("\n")[:2] == ["make demo", "make test"]
    assert TEXTS["README.md"].index("![") < TEXTS["README.md"].index("```bash")


def test_the_readme_runs_in_order() -> None:
    """Catches an example that needs what a later one makes."""
    first = [words[1] for words in shell_commands("README.md") if words[0] == "sarco"]
    assert first == ["phantom", "train", "phantom", "predict", "measure", "review"]


@pytest.mark.parametrize("name", ["README.md", "docs/index.md"])
def test_it_is_called_research_software(name: str) -> None:
    """Catches a first page from which one could take it for a medical device."""
    assert "sarco is research software. It is no medical device and makes no diagnosis." in TEXTS[name]


def test_every_make_target_exists() -> None:
    """Catches a target that was renamed, and one that nobody told of."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named: set[str] = set()
    for name, text in TEXTS.items():
        code = [*re.findall(r"`([^`\n]+)`", text), *blocks(name, "bash")]
        for words in re.findall(r"\bmake((?: [a-z]+)+)", "\n".join(code)):
            named |= set(words.split())
    assert named == targets


def test_every_dependency_has_its_reason() -> None:
    """Catches a package that came or went without a word."""
    files = ("requirements.txt", "requirements-fast.txt", "requirements-dicom.txt")
    lines = [line for name in files for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    needed = {re.split(r"[=<>!~; ]", line)[0] for line in lines if line and not line.startswith(("#", "-"))}
    part = TEXTS["docs/install.md"].split("## Dependencies, and why each")[1]
    assert set(re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE)) == needed


def test_every_extra_is_told_of() -> None:
    """Catches an example that installs an extra which the page on installing does not have."""
    part = TEXTS["docs/install.md"].split("| Extra |")[1].split("\n\n")[0]
    told = set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE))
    named = {
        extra for text in TEXTS.values() for found in re.findall(r"\.\[([\w,]+)\]", text) for extra in found.split(",")
    }
    assert named
    assert named <= told


def test_the_sampling_rule_is_the_code_s() -> None:
    """Catches a rule for rare labels that is told with old numbers."""
    from sarco.training.sampling import MOST_REPEATS, RARE_SHARE

    page = " ".join(TEXTS["docs/how-it-works.md"].split())
    assert f"√({RARE_SHARE:g} / *f*)" in page
    assert f"at least 1 and at most {MOST_REPEATS:g}." in page


def test_the_version_is_cited_as_it_is() -> None:
    """Catches a citation of another version than the one that was used."""
    from sarco import __version__

    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (\S+)$", cited, re.MULTILINE) == [__version__]


@pytest.mark.parametrize("name", PAGES)
def test_no_line_begins_a_list_by_accident(name: str) -> None:
    """Catches a wrapped line such as "255. Slices are", of which the site makes a list and drops the number."""
    numbers = re.findall(r"^\s*(\d+)\. ", without_code(prose(name)), re.MULTILINE)
    assert [number for number in numbers if int(number) > 9] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_hold_no_machine_paths(name: str) -> None:
    """Catches a path, a package host or a placeholder of the machine that a document was written on."""
    paths = r"(?<![\w.])/(work|tmp|home|root|Users|mnt|usr|opt)\b|TODO|TBD|XXX|\.\./shared"
    hosts = r"py[p]i\.org|python[h]osted|--(extra-)?index-url|--find-links|localhost|127\.0\.0\.1"
    assert not re.search(f"{paths}|{hosts}", TEXTS[name])


@pytest.mark.parametrize("name", FOR_USERS)
def test_pages_name_no_modules(name: str) -> None:
    """Catches the name of a module, which is out of date as soon as it moves; scripts that users call may stand."""
    named = set(re.findall(r"\b[\w/]+\.py\b", prose(name)))
    assert {path for path in named if not path.startswith("benchmarks/")} <= {"training.py", "inference.py"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_rates_say_per(name: str) -> None:
    """Catches "slices a step", which reads as a slip to most readers."""
    assert RATE.findall(" ".join(prose(name).split())) == []


def test_the_rule_for_rates_knows_a_rate() -> None:
    """Catches a rule that finds nothing, or that finds fault with what is no rate."""
    rates = ("16 slices a step", "seconds a slice", "8 slices a forward pass", "one file a slice", "0.75 MB a slice")
    others = ("slices per step", "a slice of a series", "the rows of a slice", "says which series a folder holds")
    assert [RATE.search(text) is not None for text in (*rates, *others)] == [True] * 5 + [False] * 4


def test_the_tables_of_options_are_fresh() -> None:
    """Catches an option that came, went or changed without `make docs`."""
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page) == page


@pytest.mark.parametrize("command", every_command(), ids=lambda command: command.name)
def test_every_option_says_what_it_is(command: Command) -> None:
    """Catches an option without help, and a command without two examples that it understands."""
    for item in command.fields().values():
        assert len(item.metadata["help"]) > 10, item.name
    assert len(command.examples) >= 2
    for example in command.examples:
        words = shlex.split(example)
        name = command.name.split()
        assert words[: 1 + len(name)] == ["sarco", *name]
        typed = command.parse(words[1 + len(name) :])
        for consumer in command.consumers:
            build(consumer, typed)


def test_the_table_of_exit_codes_is_that_of_the_code() -> None:
    """Catches an exit code that nobody can look up, and one that no command ends with any more."""
    from sarco.core import command, errors

    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    table = page.split("| Exit code | Meaning |")[1].split("\n\n")[0]
    told = {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SarcoError)]
    assert told == {0, command.INTERRUPTED, *(kind.exit_status for kind in kinds)}
