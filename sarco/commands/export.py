"""``sarco export RUN``: a run as an ONNX file that describes itself, or as a MONAI bundle, compared with torch."""

from collections.abc import Sequence
from pathlib import Path

from sarco.core.command import print_line, share_the_cpu
from sarco.core.messages import count_of
from sarco.core.options import ExportOptions
from sarco.core.parser import Command, build

COMMANDS = (
    Command(
        "export",
        "Writes a trained run as an ONNX file that describes itself, or as a MONAI bundle, and compares it with torch.",
        (ExportOptions,),
        words=("run_id",),
        examples=(
            "sarco export first --onnx=first.onnx --infer_path=unseen/P001 --overwrite=yes",
            "sarco export first --monai_bundle=first_bundle",
        ),
    ),
)


def main(argv: Sequence[str], program: str = "sarco export") -> None:
    """Writes what was asked for and says how it compares."""
    options = build(ExportOptions, COMMANDS[0].parse(argv, program))
    share_the_cpu()
    if options.onnx:
        _write_onnx(options, options.onnx)
    if options.monai_bundle:
        _write_bundle(options, options.monai_bundle)


def _write_onnx(options: ExportOptions, path: Path) -> None:
    from sarco.prediction.onnx_file import write_onnx_file

    report = write_onnx_file(options)
    print_line(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {_run(options)}")
    found = f"Dice {report['dice']:.5f}, largest difference of area {100 * report['area_difference']:.2f} %"
    print(
        f"compared with torch on {count_of(len(report['slices']), 'slice')} of {report['compared_on']}: lowest {found}"
    )


def _write_bundle(options: ExportOptions, folder: Path) -> None:
    from sarco.prediction.monai_bundle import write_monai_bundle

    agreement = write_monai_bundle(options)
    print_line(f"{folder}: MONAI bundle, {_run(options)}; docs/README.md in it says how to run it")
    print_line(f"compared with sarco on {options.infer_path or 'an invented patient'}: {agreement}")


def _run(options: ExportOptions) -> str:
    return f"run {options.run_id} ({options.ckpt_choice} checkpoint)"
