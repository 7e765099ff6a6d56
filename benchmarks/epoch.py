"""How long is an epoch at the image size that the data chooses, beside the 512 pixels of the body's box?

python benchmarks/epoch.py --work=FOLDER --data_dir=FOLDER [--append]

Trainings of one and of two epochs: what the second one adds is an epoch, without start-up and the data's preparation.
"""

import argparse
import re
from pathlib import Path

from harness import measure, report, table

KINDS = {
    "field, size chosen by the data": ("--pretrained=no",),
    "field, from the built-in network": ("--pretrained=built-in",),
    "box, 512 pixels": ("--pretrained=no", "--crop=box"),
}
SIZE = re.compile(r"^crop: .*?(\d+ x \d+ pixels(?: of [\d.]+ mm)?)", re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs")
    parser.add_argument("--data_dir", type=Path, required=True, help="images with label maps")
    parser.add_argument("--append", action="store_true", help="append to RESULTS.md")
    typed = parser.parse_args()
    rows = []
    for number, (name, flags) in enumerate(KINDS.items()):
        taken = []
        for epochs in (1, 2):
            words = [f"--data_dir={typed.data_dir}", f"--dirpath={typed.work}", f"--run_id=epoch-{number}-{epochs}"]
            taken.append(measure("training.py", *words, f"--max_epochs={epochs}", "--wandb=no", "--gpu=-1", *flags))
        size = SIZE.search(taken[0].output)
        cpu, peak = taken[1].cpu_seconds - taken[0].cpu_seconds, max(one.peak_mb for one in taken)
        rows.append([name, size[1] if size else "?", f"{cpu:.0f}", f"{peak:.0f}"])
        print(*rows[-1], flush=True)
    text = table(["what the network sees", "image", "CPU seconds per epoch", "peak MB"], rows)
    text += f"\n\n`{typed.data_dir.name}`, strong augmentation, an epoch that draws each training slice once."
    report("An epoch", "python benchmarks/epoch.py --work=FOLDER --data_dir=FOLDER", text, typed.append)


if __name__ == "__main__":
    main()
