"""The house has two floors: what ARCHITECTURE.md says of imports and sizes, read from the source itself."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND_FLOOR = sorted(path for path in (ROOT / "sarco").glob("*.py") if path.stem != "__init__")
TOP_FLOOR = sorted(ROOT.glob("*.py"))
MODULES = [*GROUND_FLOOR, *TOP_FLOOR]
SCRIPTS = ("training", "inference", "export")
LARGEST_MODULE = 420  # lines; "about 400", because a reader can hold that much
LARGEST_SCRIPT = 175
UPSTAIRS_ONLY = {"monai", "pytorch_lightning", "lightning", "wandb"}

WITHOUT_OWN_TEST_FILE = {
    "errors": "has no code but names; every other test raises them",
    "phantom_anatomy": "is drawn by phantom, whose tests measure what was drawn",
    "phantom_paint": "likewise",
    "doctor_series": "is seen through the doctor, whose tests look into every series that it makes",
    "doctor_faults": "likewise",
    "doctor_faults_geometry": "likewise",
    "doctor_faults_files": "likewise",
    "doctor_faults_pixels": "likewise",
    "doctor_score": "is seen through the doctor, whose tests hold what it judges",
    "device": "is seen through the scripts",
    "flags": "is seen through config, whose fields are the flags",
}


def name_of(path: Path) -> str:
    """The module's dotted name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


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
            found.add(node.module)
            if node.module == "sarco":  # from sarco import geometry
                found.discard("sarco")
                found |= {f"sarco.{alias.name}" for alias in node.names}
    return found


IMPORTS = {name_of(path): imports_of(path) for path in MODULES}


def packages(name: str) -> set[str]:
    """The first part of each import."""
    return {imported.split(".")[0] for imported in IMPORTS[name]}


def test_there_is_something_to_read() -> None:
    """Catches a test that passes because it looks into an empty folder."""
    assert {"sarco.geometry", "sarco.dicom", "training", "inference", "transforms"} <= IMPORTS.keys()
    assert "sarco.core.errors" in IMPORTS["sarco.geometry"]


@pytest.mark.parametrize("name", [name_of(path) for path in GROUND_FLOOR])
def test_the_ground_floor_never_looks_up(name: str) -> None:
    """Catches medical code that needs the training code, Lightning, W&B or MONAI."""
    upstairs = {path.stem for path in TOP_FLOOR} | UPSTAIRS_ONLY
    assert not packages(name) & upstairs


def test_geometry_is_numpy_and_nothing_else() -> None:
    """Catches files or frameworks in the place where everybody looks for formulas."""
    ours = {imported for imported in IMPORTS["sarco.geometry"] if imported.split(".")[0] == "sarco"}
    assert ours == {"sarco.core.errors"}
    assert packages("sarco.geometry") - {"sarco"} - sys.stdlib_module_names == {"numpy"}


def test_only_one_module_knows_nifti() -> None:
    """Catches a second place where rows and columns, or LPS and RAS, are swapped."""
    assert [name for name in IMPORTS if "nibabel" in packages(name)] == ["sarco.nifti"]


def test_nobody_imports_a_script() -> None:
    """Catches code that can be reached only through a command line."""
    for name, imported in IMPORTS.items():
        assert not imported & set(SCRIPTS), name


def test_transforms_and_mixup_stand_on_sarco_alone() -> None:
    """Catches an arrow against the picture: scripts -> data modules, model -> transforms, mixup -> sarco."""
    top = {path.stem for path in TOP_FLOOR}
    for name in top & {"transforms", "mixup"}:
        assert not packages(name) & top, name
    for name in top & {"sarco_datamodule", "sarco_datamodule_3d", "sarco_infdatamodule"}:
        assert "model" not in IMPORTS[name], name
    assert not {imported for imported in IMPORTS["model"] if "datamodule" in imported}


def test_a_prediction_needs_no_torch() -> None:
    """Catches seconds of start-up that come back: running an exported network imports nothing heavy."""
    code = (
        "import sys; import inference, engine, sarco.pipeline, sarco.results, sarco.overlay, sarco.runs; "
        "print(sorted({'torch', 'monai', 'pytorch_lightning', 'wandb', 'matplotlib', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_imports_run_one_way() -> None:
    """Catches two modules that need each other."""
    graph = {name: {other for other in imported if other in IMPORTS} for name, imported in IMPORTS.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"imports run in a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("path", GROUND_FLOOR, ids=name_of)
def test_every_module_has_its_tests(path: Path) -> None:
    """Catches a module that nobody checks."""
    if path.stem not in WITHOUT_OWN_TEST_FILE:
        assert (ROOT / "tests" / f"test_{path.stem}.py").is_file()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_fits_into_a_head(path: Path) -> None:
    """Catches a file that grew beyond what one reads in one go."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LARGEST_MODULE


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_short(script: str) -> None:
    """Catches logic that moved into a script, where nothing can test it."""
    assert len((ROOT / f"{script}.py").read_text(encoding="utf-8").splitlines()) <= LARGEST_SCRIPT


def test_no_module_is_a_drawer() -> None:
    """Catches names that say nothing."""
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "misc", "manager"}
