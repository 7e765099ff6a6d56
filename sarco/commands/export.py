"""``sarco export RUN --onnx=FILE``: a run as an ONNX file that describes itself, after comparing it with torch."""

from collections.abc import Sequence

from sarco.core.command import print_line, share_the_cpu
from sarco.core.messages import count_of
from sarco.core.options import ExportOptions
from sarco.core.parser import Command, build

COMMANDS = (
    Command(
        "export",
        "Writes a trained run as an ONNX file that describes itself, after comparing it with torch.",
        (ExportOptions,),
        words=("run_id",),
        examples=(
            "sarco export first --onnx=first.onnx",
            "sarco export first --onnx=first.onnx --infer_path=unseen/P001 --overwrite=yes",
        ),
    ),
)


def main(argv: Sequence[str], program: str = "sarco export") -> None:
    """Writes the file and says how it compares."""
    options = build(ExportOptions, COMMANDS[0].parse(argv, program))
    share_the_cpu()
    from sarco.prediction.onnx_file import write_onnx_file

    report = write_onnx_file(options)
    size_mb = options.onnx.stat().st_size / 1e6
    print_line(f"{options.onnx}: {size_mb:.1f} MB, run {options.run_id} ({options.ckpt_choice} checkpoint)")
    found = f"Dice {report['dice']:.5f}, largest difference of area {100 * report['area_difference']:.2f} %"
    print(
        f"compared with torch on {count_of(len(report['slices']), 'slice')} of {report['compared_on']}: lowest {found}"
    )
