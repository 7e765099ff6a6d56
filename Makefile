# `make demo` and `make test` set up what they need; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

# libgomp's spinning threads slow each other down wherever other processes run (field measurements: 10 times).
export GOMP_SPINCOUNT ?= 0

.PHONY: demo weights test check docs setup clean

setup: $(VENV)/.ready

# The second install brings the command `sarco`; it points at this checkout and needs no network.
$(VENV)/.ready: pyproject.toml requirements.txt requirements-dev.txt requirements-dicom.txt requirements-fast.txt
	$(PYTHON) -c 'import sys; sys.exit("sarco needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	rm -rf $(DEMO)
	$(BIN)/python -m sarco phantom $(DEMO)/dataset --patients=16 --slices=8 --size=192 --seed=1
	$(BIN)/python -m sarco phantom $(DEMO)/unseen --patients=1 --slices=12 --size=192 --seed=1001
	$(BIN)/python inference.py --infer_path=$(DEMO)/unseen/P001 --dest_dir=$(DEMO) --wandb=no
	$(BIN)/python training.py --data_dir=$(DEMO)/dataset --dirpath=$(DEMO)/checkpoints --run_id=demo --wandb=no \
	    --pretrained=built-in --invented=0 --image_size=192 --batch_size=4 --max_epochs=8 --augment=no
	$(BIN)/python inference.py --infer_path=$(DEMO)/unseen/P001 --run_id=demo --dirpath=$(DEMO)/checkpoints \
	    --dest_dir=$(DEMO) --wandb=no
	@echo
	$(BIN)/python -m sarco compare $(DEMO)/unseen/P001.nii.gz $(DEMO)/preds_from_demo_of_P001/label_map.nii.gz
	@echo "look at it: $(DEMO)/preds_from_demo_of_P001/overlay.png"

# About an hour and a half on two cores; broken off, the next call goes on.
weights: setup
	$(BIN)/python -m sarco.commands.weights

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# mkdocs-material warns of a mkdocs 2 that the range in pyproject.toml keeps out.
docs: $(VENV)/.docs
	$(BIN)/python -m sarco.commands.table
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -d site

$(VENV)/.docs: $(VENV)/.ready requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
