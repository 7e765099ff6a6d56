"""The ground: errors, messages, whole files and folders, options and the parser made from them, how a command ends.

An option *is* a field of a frozen dataclass: name, default, help and choices stand there, ranges in
``__post_init__``. The parser leaves out what was not typed, so `sarco.core.parser.build` gives default < stored <
typed. No function below the commands sees an argparse namespace. Options reach a checkpoint as str, int, float, bool,
list and None (`to_builtins`): a ``Path`` would save well and then refuse to load.
"""
