"""A ``prediction.json`` without a scan, for tests of what reads results."""

from typing import Any

NESTED = ["[" * 100_000, '{"a":' * 100_000]


def plain_prediction(**changes: Any) -> dict[str, Any]:
    """The least that sarco writes: two slices that lie nowhere, one label."""
    entries = [
        {"slice_index": k, "file": f"/nowhere/{k}.dcm", "frame": 0, "sop_uid": f"1.2.{k}", "blake2b": "ab" * 64}
        for k in range(2)
    ]
    content = {
        "sarco_version": "0.1.0",
        "run_id": "r1",
        "series_uid": "1.2.3",
        "labels": [{"id": 1, "name": "muscle"}],
        "mean_confidence": 0.75,
        "slices": [entry | {"confidence": 0.75} for entry in entries],
    }
    return content | changes


def correction(corrected_by: str = "", slices: tuple[int, ...] = (1,)) -> dict[str, Any]:
    """A correction as ``prediction.json`` notes it."""
    return {"corrected_by": corrected_by, "corrected_at": "2026-01-02T03:04:05Z", "slices": list(slices)}


def deep(layers: int) -> list[Any]:
    """Lists in lists, so few that a parser of JSON still takes them."""
    found: list[Any] = []
    for _ in range(layers):
        found = [found]
    return found
