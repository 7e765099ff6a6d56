"""The wheel: what is in it, and that it works where no checkout is near."""

import csv
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import hatch_build
import sarco

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
DIST_INFO = f"sarco-{sarco.__version__}.dist-info"


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, beside the packages of the test environment, and an empty folder."""

    environment: Path
    folder: Path

    def run(self, program: str, *words: object) -> str:
        """What a program of the environment prints, started in the empty folder; it has to succeed."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "PYTHON"))}
        quiet = {"GOMP_SPINCOUNT": "0", "CUDA_VISIBLE_DEVICES": "", "WANDB_API_KEY": "", "HOME": str(self.folder)}
        command = [str(self.environment / "bin" / program), *map(str, words)]
        done = subprocess.run(command, cwd=self.folder, env=kept | quiet, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def tracked() -> list[str]:
    """The files of the checkout that git knows."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def source(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of the tracked files."""
    copy = tmp_path_factory.mktemp("source")
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    return copy


def build(target: str, source: Path, folder: Path) -> Path:
    """Builds a wheel or an sdist of the source, without a network, and says where it is."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The content of the wheel by path; the file itself lies under the path ""."""
    file = build("wheel", source, tmp_path_factory.mktemp("wheel"))
    return contents(file) | {"": str(file).encode()}


def contents(wheel: Path) -> dict[str, bytes]:
    """What a wheel holds, by path."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names)), "a path is twice in the wheel"
        return {name: archive.read(name) for name in names}


@pytest.fixture(scope="session")
def installed(wheel: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, installed by pip in an environment of its own that also sees the packages of this one."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    # Paths in a .pth file are searched last, and .pth files there are not read: an editable sarco stays out of sight.
    beside = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "beside.pth").write_text("\n".join(beside), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(environment / "bin" / "python")]
    words = ["install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", "--no-compile", wheel[""].decode()]
    done = subprocess.run([*pip, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Installed(environment, tmp_path_factory.mktemp("elsewhere"))


def test_wheel_holds_the_package_and_nothing_else(wheel: dict[str, bytes], tracked: list[str]) -> None:
    """Catches a wheel without cut-offs, page assets or `training.py`, and one that installs a module called `model`."""
    expected = {name for name in tracked if name.startswith("sarco/")}
    expected |= {"sarco/project/__init__.py"} | {f"sarco/project/{name}.py" for name in MODULES}
    told = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    assert set(wheel) - {""} == expected | {f"{DIST_INFO}/{name}" for name in told}
    for kind in ("sarco/measurement/cutoff_sets/*.toml", "sarco/review/assets/*.html", "sarco/py.typed"):
        assert any(Path(name).match(kind) for name in wheel), kind


def test_wheel_differs_from_the_checkout_in_imports_of_the_root_only(wheel: dict[str, bytes], source: Path) -> None:
    """Catches a plain `import model` left in the wheel, and a rewriting that touches anything else."""
    names = "|".join(MODULES)
    plain = re.compile(rf"^\s*(from|import)\s+(\w+,\s*)*({names})\b", re.MULTILINE)
    changed = []
    for name in (name for name in wheel if name.endswith(".py")):
        text = wheel[name].decode()
        assert not plain.search(text), name
        compile(text, name, "exec")
        if name == "sarco/project/__init__.py":
            continue
        original = (source / name.replace("sarco/project/", "")).read_text(encoding="utf-8")
        back = re.sub(r"from sarco\.project import (\w+)", r"import \1", text)
        assert re.sub(r"\bsarco\.project\.(?=\w)", "", back) == original, name
        changed += [name] * (text != original)
    assert "sarco/project/model.py" in changed


def test_metadata_names_version_command_and_extras(wheel: dict[str, bytes]) -> None:
    """Catches a wheel that says another version than `sarco.__version__`, brings no `sarco`, or has lost an extra."""
    told = wheel[f"{DIST_INFO}/METADATA"].decode().partition("\n\n")[0].splitlines()
    assert f"Version: {sarco.__version__}" in told
    assert {f"Provides-Extra: {name}" for name in ("fast", "dicom", "docs", "dev")} <= set(told)
    assert "sarco = sarco.__main__:main" in wheel[f"{DIST_INFO}/entry_points.txt"].decode().splitlines()


def test_sdist_builds_the_same_wheel(wheel: dict[str, bytes], source: Path, tmp_path: Path) -> None:
    """Catches an sdist that leaves out what the wheel is made of."""
    sdist = build("sdist", source, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert contents(build("wheel", unpacked, tmp_path / "wheel")) == {name: wheel[name] for name in wheel if name}


def test_editable_install_points_at_the_checkout(source: Path, tmp_path: Path) -> None:
    """Catches `pip install -e .` that copies modules, which would then be those of the day of the install."""
    code = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=source, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    held = {name: content for name, content in contents(file).items() if not name.startswith(DIST_INFO)}
    assert [content.decode().strip() for content in held.values()] == [str(source)]
    assert all(name.endswith(".pth") for name in held)


def requirements(name: str) -> set[str]:
    """The lines of a requirements file and of those that it names, as sets of requirements compare."""
    found = set()
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            found |= requirements(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            found.add(str(Requirement(line)))
    return found


def extra(name: str) -> set[str]:
    """What an extra of pyproject.toml asks for, and what the extras that it names ask for."""
    found = set()
    for one in map(Requirement, PYPROJECT["project"]["optional-dependencies"][name]):
        found |= set().union(*map(extra, one.extras)) if one.name == "sarco" else {str(one)}
    return found


def test_requirements_files_say_what_pyproject_says() -> None:
    """Catches a range that is changed in one of both places."""
    needed = {str(Requirement(line)) for line in PYPROJECT["project"]["dependencies"]}
    assert requirements("requirements.txt") == needed
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert {f"requirements-{name}.txt" for name in extras} == {file.name for file in ROOT.glob("requirements-*.txt")}
    for name in extras:
        assert requirements(f"requirements-{name}.txt") - needed == extra(name), name
    assert needed <= requirements("requirements-dev.txt")


def test_building_is_tested_with_the_backend_that_builds() -> None:
    """Catches a wheel that is tested with another hatchling than pip would take."""
    assert {str(Requirement(line)) for line in PYPROJECT["build-system"]["requires"]} <= extra("dev")


LOOK = """
import importlib.util, sys
from pathlib import Path

import sarco
from sarco.measurement.cutoffs import read_cutoffs
from sarco.review import page

home = Path(sarco.__file__).parent
modules = [importlib.import_module(f"sarco.project.{name}") for name in sys.argv[1:]]
assert all(Path(module.__file__).is_relative_to(home) for module in modules)
print(home)
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])
print(len(read_cutoffs()))
print(*[path.name for path in page.ASSETS.iterdir()])
"""


def test_installed_package_stands_alone(installed: Installed, source: Path) -> None:
    """Catches root modules that only import beside a checkout, and measurements that lose their cut-offs in silence."""
    home, plain, cutoffs, assets = installed.run("python", "-c", LOOK, *MODULES).split("\n")[:4]
    assert Path(home).is_relative_to(installed.environment)
    assert plain == ""
    assert int(cutoffs) == len(list((source / "sarco/measurement/cutoff_sets").glob("*.toml")))
    assert set(assets.split()) == {path.name for path in (source / "sarco/review/assets").iterdir()}


def test_every_command_explains_itself(installed: Installed) -> None:
    """Catches a command that imports what the wheel does not carry."""
    commands = pytest.importorskip("sarco.commands", reason="the commands are not there yet").SUMMARIES
    overview = installed.run("sarco", "-h")
    for name in commands:
        assert name in overview
        assert installed.run("sarco", name, "-h").startswith(f"usage: sarco {name}")


def test_whole_way_with_the_installed_command(installed: Installed) -> None:
    """Catches a command that works in a checkout only: from nothing to a training, a prediction and measurements."""
    pytest.importorskip("sarco.commands", reason="the commands are not there yet")
    installed.run("sarco", "phantom", "data", "--patients=2", "--slices=3", "--size=96")
    quick = ["--image_size=64", "--batch_size=2", "--max_epochs=1", "--pretrained=no", "--gpu=-1", "--wandb=no"]
    installed.run("sarco", "train", "--data_dir=data", "--run_id=first", *quick)
    scan = ["--infer_path=data/P001", "--run_id=first", "--dest_dir=results"]
    installed.run("sarco", "predict", *scan, "--engine=torch", "--gpu=-1", "--wandb=no")
    results = installed.folder / "results" / "preds_from_first_of_P001"
    assert (results / "label_map.nii.gz").is_file()
    assert "<script" in (results / "review.html").read_text(encoding="utf-8")
    installed.run("sarco", "measure", "data/P001", "data/P001.nii.gz", "--out=measured")
    with (installed.folder / "measured" / "measurements.csv").open(encoding="utf-8") as file:
        assert [float(row["area_cm2"]) > 0 for row in csv.DictReader(file)] == [True] * 3


IN_ROOT = {"model", "training", "scratch"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import training\n", "from sarco.project import training\n"),
        ("import training as t  # why\n", "from sarco.project import training as t  # why\n"),
        ("import model, os as o, training\n",
         "from sarco.project import model; import os as o; from sarco.project import training\n"),
        ("def f():\n    from model import A, B\n", "def f():\n    from sarco.project.model import A, B\n"),
        ("if 1: import model; x = 1\n", "if 1: from sarco.project import model; x = 1\n"),
        ("from model import (  # ü\n    A as B,\n)\n", "from sarco.project.model import (  # ü\n    A as B,\n)\n"),
        ("'ü'; from \\\n    model import A\r\n", "'ü'; from \\\n    sarco.project.model import A\r\n"),
        ("runpy.run_module('training', 1)\n", 'runpy.run_module("sarco.project.training", 1)\n'),
        ("from models import model\nfrom .model import A\nimport os.model\n", None),
        ("'''\nimport model\n'''\nx = 'from model import A'  # import model\n", None),
    ],
)  # fmt: skip
def test_imports_of_root_modules_are_rewritten(before: str, after: str | None) -> None:
    """Catches an import that the wheel would not find, and words that only look like one."""
    rewritten = hatch_build.rewrite(before.encode(), "m.py", {"model", "training"}, IN_ROOT).decode()
    assert rewritten == (before if after is None else after)
    assert hatch_build.rewrite(rewritten.encode(), "m.py", {"model", "training"}, IN_ROOT).decode() == rewritten


@pytest.mark.parametrize(
    "line",
    ["import model.part", "from model.part import A", "import scratch", "__import__('model')",
     "resolve_name('model:A')", "import_module('model' '')", "import_module('model.part')"],
)  # fmt: skip
def test_build_ends_at_imports_that_it_cannot_rewrite(line: str) -> None:
    """Catches a wheel that is built all the same and fails at its user's."""
    with pytest.raises(hatch_build.WheelError, match=r"^m\.py:2: the wheel cannot carry this import of [ms]"):
        hatch_build.rewrite(f"x = 1\n{line}\n".encode(), "m.py", {"model", "training"}, IN_ROOT)


def test_build_ends_where_a_module_is_missing_or_its_place_taken(tmp_path: Path) -> None:
    """Catches a module that was renamed in the root alone, and a room that the wheel would hide."""
    with pytest.raises(hatch_build.WheelError, match=r"^model\.py: is in the table"):
        hatch_build.project_files(tmp_path, ["model"])
    (tmp_path / "model.py").touch()
    (tmp_path / "sarco" / "project").mkdir(parents=True)
    with pytest.raises(hatch_build.WheelError, match=r"^sarco/project: is made for the wheel"):
        hatch_build.project_files(tmp_path, ["model"])
