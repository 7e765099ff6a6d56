"""training.py with the head that networks had before: ReLU in the decoder, no bias from the labels' shares.

leave_one_out.py starts it; no option brings these back.
"""

import sys

import harness  # noqa: F401  (finds the project)

import sarco.core.training_options as options

options.ACTIVATIONS = ("relu", "leakyrelu")  # the first is that of new runs

import model  # noqa: E402
import training  # noqa: E402


def leave_head(head: object, shares: object) -> None:
    """Leaves the head as it is drawn."""


if __name__ == "__main__":
    model.start_head = leave_head
    training.main(sys.argv[1:])
