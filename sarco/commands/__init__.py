"""The commands, a file each: options in, lines out. The only room with a parser and, beside the scripts, with print."""

import importlib
from types import ModuleType

SUMMARIES = {
    "train": "train a network on labelled CT slices, or go on with a training",
    "predict": "predict CT scans with a trained run, and measure what it found",
    "list": "list what a folder holds: series to predict, and data to train on",
    "measure": "measure anybody's mask on its CT",
    "compare": "compare label maps: overlap, distances, volumes, agreement over patients",
    "review": "take corrections of a review page over, or list reviews on one page",
    "export": "write a trained run as an ONNX file that describes itself",
    "cache": "list the prepared slices that trainings keep, and remove old ones",
    "phantom": "invent patients as DICOM CT series with exact label maps",
    "doctor": "score DICOM readers on small CT series with one fault each",
}


def module_of(name: str) -> ModuleType:
    """The module of a command: it has ``COMMANDS``, what it is for its parser, and ``main(argv, program)``."""
    if name == "train":
        import training

        return training
    if name == "predict":
        import inference

        return inference
    return importlib.import_module(f"sarco.commands.{name}")
