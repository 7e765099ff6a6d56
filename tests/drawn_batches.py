"""Training batches of a data module, and whether two epochs of them are the same."""

import torch

from sarco_datamodule import SarcoDataModule


def batches(datamodule: SarcoDataModule, epoch: int = 0) -> list[dict[str, torch.Tensor]]:
    """The training batches of an epoch."""
    loader = datamodule.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return list(loader)


def same(one: list[dict[str, torch.Tensor]], two: list[dict[str, torch.Tensor]]) -> bool:
    """Whether two epochs hold the same batches."""
    return len(one) == len(two) and all(
        torch.equal(a[name], b[name]) for a, b in zip(one, two, strict=True) for name in a
    )
