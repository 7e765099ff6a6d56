"""The house has rooms: what ARCHITECTURE.md says of imports, sizes and tests, read from the source itself."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground to the door: a room imports only from rooms that stand before it.
ROOMS = (
    "core",
    "scan",
    "io",
    "crop",
    "runs",
    "network",
    "pacs",
    "layouts",
    "examination",
    "anatomy",
    "pelvis",
    "phantom",
    "doctor",
    "comparison",
    "quality",
    "prediction",
    "augmentation",
    "training",
    "batches",
    "measurement",
    "review",
    "results",
    "PROJECT",  # the root's Lightning modules
    "api",
    "commands",
    "DOOR",  # sarco/__main__.py and the scripts
)
SCRIPTS = ("training", "inference")
BUILD = "hatch_build"
HOUSE = sorted((ROOT / "sarco").rglob("*.py"))
PROJECT = sorted(path for path in ROOT.glob("*.py") if path.stem != BUILD)
MODULES = [*HOUSE, *PROJECT]
LARGEST_MODULE = 420  # lines; "about 400", because a reader can hold that much
LARGEST_FUNCTION = 62  # lines with its docstring; "about 50"
LARGEST_SCRIPT = 130
MOST_MODULES = 14  # of a room

FRAMEWORKS = {"monai", "pytorch_lightning", "lightning_fabric", "lightning", "wandb"}
MAY_HAVE_FRAMEWORKS = re.compile(
    r"sarco\.(network\.\w+|training\.\w+|runs\.(tracking|wandb_process)|api\.training|crop\.monai_transforms"
    r"|prediction\.monai_bundle)|model|transforms|sarco_\w*datamodule\w*"
)
MAY_HAVE_TORCH = re.compile(
    MAY_HAVE_FRAMEWORKS.pattern
    + r"|sarco\.batches\.(samples|mixed)|sarco\.prediction\.(torch_engine|convert)|sarco\.runs\.store"
    + r"|sarco\.augmentation\.warp|mixup"
)
ONLY_IN = {  # package -> who may import it
    "nibabel": r"sarco\.io\.nifti(_file)?",
    "openvino": r"sarco\.prediction\.openvino_engine",
    "onnx": r"sarco\.prediction\.onnx_file|sarco\.network\.warm_start",
    "onnxruntime": r"sarco\.prediction\.onnx_engine",
    "safetensors": r"sarco\.runs\.built_in",
    "highdicom": r"sarco\.pacs\.\w+",
    "matplotlib": r"sarco\.(comparison\.agreement|training\.callbacks)",
    "argparse": r"sarco\.core\.parser|sarco\.commands\.completion",
    "argcomplete": r"sarco\.commands\.completion",
}
WITHOUT_OWN_TEST_FILE = {
    "core.errors": "has no code but names; every other test raises them",
    "core.parser": "is seen through the options, whose fields are what it parses",
    "core.training_options": "likewise",
    "scan.label_map": "is seen through NIfTI and measurements, whose tests lay label maps over slices",
    "crop.monai_transforms": "is seen through the bundle, whose masks are compared with those of the pipeline",
    "crop.slices": "is seen through the pipeline, which is compared with MONAI pixel by pixel",
    "network.device": "is seen through the scripts",
    "runs.wandb_process": "is seen through the tracking, whose tests start it",
    "network.encoder": "is seen through the whole network",
    "network.decoder": "likewise",
    "network.mixing": "is seen through mixup",
    "prediction.convert": "is seen through the engines that run what it makes",
    "prediction.torch_engine": "is seen through the choice of engine",
    "prediction.onnx_engine": "likewise",
    "prediction.judge": "is seen through the engines, whose masks it compares",
    "batches.samples": "is seen through the data modules and the augmentation, whose tests draw from it",
    "training.progress": "is seen through the callbacks and the scripts",
    "training.validation_report": "is seen through the scripts",
    "measurement.facts": "is seen through the masks and series that are measured",
    "anatomy.abdomen": "is drawn into the body, whose tests measure what was drawn",
    "anatomy.build": "is drawn into the body, whose tests measure what was drawn",
    "anatomy.chest": "likewise",
    "anatomy.outline": "is seen through the painter",
    "anatomy.shapes": "is painted by the painter",
    "anatomy.soft_tissue": "is drawn into the body, whose tests measure what was drawn",
    "layouts.case": "is seen through the search, whose tests read every layout",
    "layouts.files": "likewise",
    "layouts.labels": "likewise",
    "layouts.names": "likewise",
    "layouts.pairs": "likewise",
    "layouts.nnunet": "likewise",
    "layouts.totalsegmentator": "likewise",
    "layouts.saros": "likewise",
    "layouts.dicom_seg": "likewise",
    "layouts.survey": "is seen through bad input, which it tells before a training does",
    "pacs.read_seg": "is seen through the layouts, one of which is DICOM SEG",
    "doctor.cases": "is seen through the scores, whose tests look into every series that it makes",
    "doctor.faults_files": "likewise",
    "doctor.faults_geometry": "likewise",
    "doctor.faults_pixels": "likewise",
    "doctor.judge": "is seen through the scores, whose tests hold what it judges",
}


def name_of(path: Path) -> str:
    """The module's dotted name; that of a package is its folder's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name: str) -> str:
    """The room of a module by its dotted name; "" for what stands above all of them."""
    parts = name.split(".")
    if parts[0] != "sarco":
        return "DOOR" if name in SCRIPTS else "PROJECT"
    if name == "sarco":
        return ""
    return "DOOR" if parts[1] == "__main__" else parts[1]


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports anywhere in it, by its full dotted name, but not what only type checkers see."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import hides where a name comes from"
            assert node.module
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            inside = parts & NAMES  # from sarco.scan import geometry
            found |= inside or {node.module}
    return found


NAMES = {name_of(path) for path in MODULES}
IMPORTS = {name_of(path): imports_of(path) for path in MODULES}
TREES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


def ours(name: str) -> set[str]:
    """The modules of this project that a module imports."""
    return {imported for imported in IMPORTS[name] if imported in NAMES}


def packages(name: str) -> set[str]:
    """The first part of each import."""
    return {imported.split(".")[0] for imported in IMPORTS[name]}


def test_there_is_something_to_read() -> None:
    """Catches a test that passes because it looks into an empty folder."""
    assert {"sarco.scan.geometry", "sarco.io.dicom", "training", "inference", "transforms"} <= IMPORTS.keys()
    assert "sarco.core.errors" in IMPORTS["sarco.scan.geometry"]
    assert {room_of(name) for name in NAMES} == {*ROOMS, ""}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_room_imports_only_from_rooms_below_it(name: str) -> None:
    """Catches an arrow upwards, after which one cannot read a room without the house above it."""
    room = room_of(name)
    if not room:  # sarco/__init__.py gives the Python interface by name, and imports nothing before it is asked
        assert ours(name) == set()
        return
    height = ROOMS.index(room)
    upwards = {other for other in ours(name) if room_of(other) and ROOMS.index(room_of(other)) > height}
    if room == "commands":  # module_of() hands the scripts to the door
        upwards -= {"training", "inference"}
    assert upwards == set()


def test_imports_run_one_way() -> None:
    """Catches two modules that need each other."""
    graph = {name: ours(name) - {"sarco"} for name in NAMES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imports run in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_no_room_reaches_into_another_s_private_names(name: str) -> None:
    """Catches a room that cannot be changed inside without looking at all others."""
    private = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").split(".")[0] in {"sarco", *(p.stem for p in PROJECT)}
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert private == []


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_is_heavy_is_imported_where_it_may_be(name: str) -> None:
    """Catches seconds of start-up, and medical code that needs the training code."""
    if packages(name) & FRAMEWORKS:
        assert MAY_HAVE_FRAMEWORKS.fullmatch(name)
    if packages(name) & {"torch", "torchmetrics", "efficientnet_pytorch"}:
        assert MAY_HAVE_TORCH.fullmatch(name)
    for package, where in ONLY_IN.items():
        if package in packages(name):
            assert re.fullmatch(where, name), package


def test_a_scan_is_numpy_and_nothing_else() -> None:
    """Catches files or frameworks in the room where everybody looks for formulas."""
    for name in (name for name in NAMES if room_of(name) == "scan"):
        assert packages(name) - {"sarco"} - sys.stdlib_module_names <= {"numpy"}, name


@pytest.mark.parametrize("name", sorted(NAMES))
def test_only_commands_and_scripts_print(name: str) -> None:
    """Catches a library that talks: from Python nothing is printed, and a command's lines stand in its file."""
    calls = [
        node.lineno
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    if room_of(name) not in ("commands", "DOOR") and name != "sarco.core.command":
        assert calls == []


def test_nobody_imports_a_script_but_the_commands() -> None:
    """Catches code that can be reached only through a command line."""
    assert {name for name in NAMES if IMPORTS[name] & set(SCRIPTS)} == {"sarco.commands"}


def loaded(code: str) -> str:
    """Which slow modules are loaded after some lines of Python, in a process of their own."""
    slow = {"torch", "monai", "pytorch_lightning", "wandb", "matplotlib", "openvino", "argcomplete"}
    code = f"import sys\n{code}\nprint(sorted({slow!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_prediction_needs_no_torch() -> None:
    """Catches seconds of start-up that come back: running an exported network imports nothing heavy."""
    assert (
        loaded(
            "import inference, sarco.api.predicting, sarco.prediction.choose, sarco.prediction.pipeline\n"
            "import sarco.results.outputs, sarco.review.sheet, sarco.runs.store, sarco.measurement.series"
        )
        == "[]"
    )


def test_importing_sarco_costs_nothing() -> None:
    """Catches a Python interface that takes seconds before it is used."""
    assert loaded("import sarco; assert not {m for m in sys.modules if m.startswith('sarco.')}") == "[]"


@pytest.mark.parametrize("path", HOUSE, ids=name_of)
def test_every_module_has_its_tests(path: Path) -> None:
    """Catches a module that nobody checks, and tests that lie where nobody looks for them."""
    name = name_of(path).removeprefix("sarco.")
    room, _, module = name.partition(".")
    if module and room not in ("commands", "api") and name not in WITHOUT_OWN_TEST_FILE:
        assert (ROOT / "tests" / room / f"test_{module}.py").is_file()


def test_excuses_are_needed() -> None:
    """Catches an excuse for a module that is gone, or that has its tests by now."""
    for name in WITHOUT_OWN_TEST_FILE:
        room, _, module = name.partition(".")
        assert f"sarco.{name}" in NAMES, name
        assert not (ROOT / "tests" / room / f"test_{module}.py").exists(), name


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_fits_into_a_head(path: Path) -> None:
    """Catches a file that grew beyond what one reads in one go."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LARGEST_MODULE


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_function_fits_into_a_head(name: str) -> None:
    """Catches a function that does several things."""
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= LARGEST_FUNCTION
    }
    assert long == {}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_short(script: str) -> None:
    """Catches logic that moved into a script, where Python cannot call it."""
    assert len((ROOT / f"{script}.py").read_text(encoding="utf-8").splitlines()) <= LARGEST_SCRIPT


@pytest.mark.parametrize("room", sorted(path.parent.name for path in HOUSE if path.name == "__init__.py"))
def test_a_room_says_what_it_is_and_is_no_corridor(room: str) -> None:
    """Catches a folder without a word, and one that holds so much that nobody knows what."""
    if room == "sarco":
        return
    folder = ROOT / "sarco" / room
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert text and len(text.split()) >= 8
    assert len([path for path in folder.glob("*.py") if path.stem != "__init__"]) <= MOST_MODULES


def test_no_module_is_a_drawer() -> None:
    """Catches names that say nothing."""
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "misc", "manager"}


def test_the_picture_is_the_house() -> None:
    """Catches a room that came, went or moved without the picture."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    picture = text.split("```")[1]
    drawn = re.findall(r"^  (\w+)/ ", picture, re.MULTILINE)
    assert drawn == [room for room in reversed(ROOMS) if room.islower()]
    assert set(re.findall(r"\b(\w+\.py)\b", picture)) == {path.name for path in PROJECT} | {"__main__.py"}
    for place in re.findall(r"`(\w+/\w+)`", text):
        assert (ROOT / "sarco" / f"{place}.py").is_file(), place
