"""sarco segments muscle on abdominal CT and measures it on the patient's own grid.

From Python: `sarco.predict`, `sarco.measure`, `sarco.train`, `sarco.cross_validate` and `sarco.compare` do what the
commands do. Importing
sarco costs nothing; what a function needs is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sarco.api.comparing import Comparison, compare
    from sarco.api.folds import CrossValidated, cross_validate
    from sarco.api.measuring import MeasuredMask, measure
    from sarco.api.predicting import PredictedSeries, predict
    from sarco.api.training import Trained, train
    from sarco.core.errors import SarcoError

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "CrossValidated",
    "MeasuredMask",
    "PredictedSeries",
    "SarcoError",
    "Trained",
    "compare",
    "cross_validate",
    "measure",
    "predict",
    "train",
]
_PLACES = {
    "Comparison": "sarco.api.comparing",
    "CrossValidated": "sarco.api.folds",
    "MeasuredMask": "sarco.api.measuring",
    "PredictedSeries": "sarco.api.predicting",
    "SarcoError": "sarco.core.errors",
    "Trained": "sarco.api.training",
    "compare": "sarco.api.comparing",
    "cross_validate": "sarco.api.folds",
    "measure": "sarco.api.measuring",
    "predict": "sarco.api.predicting",
    "train": "sarco.api.training",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'sarco' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
