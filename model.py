"""The network (an EfficientNet encoder, a U-Net or SegResNet decoder) and SarcoModel, which trains it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import url_map
from monai.networks.blocks.segresnet_block import ResBlock, get_conv_layer, get_upsample_layer
from monai.networks.nets.flexible_unet import SegmentationHead, UNetDecoder
from pytorch_lightning.trainer.states import TrainerFn
from torch import nn

from mixup import Mix, draw_mix, mix_target
from sarco.config import NetworkOptions
from sarco.errors import CheckpointError, InputError
from sarco.loss import SegmentationLoss
from sarco.metrics import SegmentationScores, SumMetric
from sarco.precision import DepthwiseConv
from sarco.runs import RunDescription, load_checkpoint
from sarco.sampling import SEED_OF_STEP
from sarco.schedule import make_scheduler, rate_factor

# From the deepest level up. Half of what MONAI's FlexibleUNet has: 8.5 instead of 18.8 GFLOP a 512 x 512 slice.
DECODER_CHANNELS = (128, 64, 32, 16, 16)
BATCH_NORM_MOMENTUM = 0.1  # EfficientNet ships 0.01, with which short runs predict nothing in eval mode
BATCH_NORM = ("batch", {"eps": 1e-3, "momentum": BATCH_NORM_MOMENTUM})
STATIC_PADDING_SIZE = 256  # any multiple of 32 gives the same padding as every other
NOT_USED = ("_conv_head", "_bn1", "_fc")  # EfficientNet's classifier


class Encoder(nn.Module):
    """EfficientNet without its classifier; gives features at strides 2, 4, 8, 16 and 32."""

    def __init__(self, backbone: str, in_channels: int) -> None:
        """Random weights.

        Args:
            backbone: ``efficientnet-b0`` .. ``efficientnet-b7``.
            in_channels: slices that make up an image.
        """
        super().__init__()
        self.net = EfficientNet.from_name(backbone, in_channels=in_channels, image_size=STATIC_PADDING_SIZE)
        self.net.set_swish(memory_efficient=False)  # faster, and it can be exported
        for name in NOT_USED:
            delattr(self.net, name)
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = BATCH_NORM_MOMENTUM
        for block in self.net._blocks:
            block._depthwise_conv = DepthwiseConv(block._depthwise_conv)
        self._level_ends = [i - 1 for i, block in enumerate(self.net._blocks) if i > 0 and _halves(block)] + [
            len(self.net._blocks) - 1
        ]
        self.channels = (
            in_channels,
            *(self.net._blocks[i]._block_args.output_filters for i in self._level_ends),
        )

    def forward(self, image: torch.Tensor, mix: Mix | None = None) -> list[torch.Tensor]:
        """Features by level: the image (B, C, R, C), then (B, c, R/2, C/2) down to (B, c, R/32, C/32).

        With ``mix`` the trunk is mixed at its level, and so, for the skip connections, are all levels above it:
        what reaches the decoder is mixed throughout by the same share.
        """
        features = [image]
        x = mix(image) if mix and mix.level == 0 else image
        x = self.net._swish(self.net._bn0(self.net._conv_stem(x)))
        drop_rate = self.net._global_params.drop_connect_rate or 0.0
        for i, block in enumerate(self.net._blocks):
            x = block(x, drop_connect_rate=drop_rate * i / len(self.net._blocks))
            if i in self._level_ends:
                if mix and mix.level == len(features):
                    features = [mix(feature) for feature in features]
                    x = mix(x)
                features.append(x)
        return features


def _halves(block: Any) -> bool:
    return bool(block._depthwise_conv.stride[0] == 2)


class SegResNetDecoder(nn.Module):
    """The up-path of MONAI's SegResNet: 1x1 convolution, linear upsampling, sum with the skip, residual block."""

    def __init__(self, encoder_channels: tuple[int, ...], decoder_channels: tuple[int, ...]) -> None:
        """Random weights.

        Args:
            encoder_channels: of the image and of each level.
            decoder_channels: from the deepest level up, the last at full resolution.
        """
        super().__init__()
        skips = [*encoder_channels[1:-1][::-1], 0]
        sources = [encoder_channels[-1], *decoder_channels[:-1]]
        self.reduce = nn.ModuleList()
        self.project = nn.ModuleList()
        self.blocks = nn.ModuleList()
        for source, skip, channels in zip(sources, skips, decoder_channels, strict=True):
            up = get_upsample_layer(2, channels, upsample_mode="nontrainable")
            self.reduce.append(nn.Sequential(get_conv_layer(2, source, channels, kernel_size=1), up))
            self.project.append(get_conv_layer(2, skip, channels, kernel_size=1) if skip else nn.Identity())
            self.blocks.append(ResBlock(2, channels, norm=("group", {"num_groups": 8})))

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Features by level to (B, c, R, C)."""
        x = features[-1]
        skips: list[torch.Tensor | None] = [*features[1:-1][::-1], None]
        for reduce, project, block, skip in zip(self.reduce, self.project, self.blocks, skips, strict=True):
            x = reduce(x)
            x = block(x if skip is None else x + project(skip))
        return x


class SegmentationNetwork(nn.Module):
    """Encoder, decoder, head: (B, C, R, C) in [0, 1] to logits (B, K, R, C)."""

    def __init__(self, backbone: str, model_choice: str, in_channels: int, n_channels: int) -> None:
        """Random weights; see `build_network`."""
        super().__init__()
        self.encoder = Encoder(backbone, in_channels)
        self.decoder = _make_decoder(model_choice, self.encoder.channels)
        self.head = SegmentationHead(2, DECODER_CHANNELS[-1], n_channels, kernel_size=3)

    def forward(self, image: torch.Tensor, mix: Mix | None = None) -> torch.Tensor:
        """Logits (B, K, R, C)."""
        return self.head(self.decoder(self.encoder(image, mix)))


def _make_decoder(model_choice: str, encoder_channels: tuple[int, ...]) -> nn.Module:
    if model_choice == "segresnet":
        return SegResNetDecoder(encoder_channels, DECODER_CHANNELS)
    return UNetDecoder(
        spatial_dims=2,
        encoder_channels=encoder_channels,
        decoder_channels=DECODER_CHANNELS,
        act=("relu", {"inplace": True}),
        norm=BATCH_NORM,
        dropout=0.0,
        bias=False,
        upsample="nontrainable",
        pre_conv="default",
        interp_mode="nearest",
        align_corners=None,
        is_pad=False,
    )


def build_network(options: NetworkOptions, in_channels: int, n_channels: int) -> SegmentationNetwork:
    """The network with random weights.

    Args:
        options: encoder and decoder.
        in_channels: slices that make up an image, 1 or 3.
        n_channels: background and one a label.
    """
    return SegmentationNetwork(options.backbone, options.model_choice, in_channels, n_channels)


def load_encoder_weights(network: SegmentationNetwork, options: NetworkOptions) -> str:
    """Gives the encoder the weights that ``--pretrained`` asks for.

    Returns:
        Where they came from: ``random``, ``imagenet`` or the file.

    Raises:
        InputError: weights that were asked for cannot be had or do not fit.
    """
    choice = options.pretrained
    if choice == "no":
        return "random"
    if choice not in ("auto", "imagenet"):
        _adopt(network.encoder, _read_weights(Path(choice)), choice)
        return choice
    url = url_map[options.backbone]
    try:
        weights = torch.hub.load_state_dict_from_url(url, map_location="cpu", progress=True, weights_only=True)
    except Exception as error:  # no network, no space, a damaged file in the cache
        if choice == "auto":
            return "random"
        raise InputError(
            f"--pretrained=imagenet: the weights of {options.backbone} cannot be had ({error}); download "
            f"{Path(url).name} elsewhere and give it as --pretrained=FILE, or use --pretrained=auto"
        ) from None
    _adopt(network.encoder, weights, "imagenet")
    return "imagenet"


def _read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make torch raise nearly anything
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise InputError(f"--pretrained={path}: cannot be read as weights ({reason})") from None
    if isinstance(weights, Mapping) and isinstance(weights.get("state_dict"), Mapping):  # a run of sarco
        prefix = "network.encoder.net."
        return {k.removeprefix(prefix): v for k, v in weights["state_dict"].items() if k.startswith(prefix)}
    if not isinstance(weights, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    ):
        raise InputError(f"--pretrained={path}: holds no weights; give a state dict of efficientnet-pytorch")
    return weights


def _adopt(encoder: Encoder, weights: Mapping[str, torch.Tensor], source: str) -> None:
    own = encoder.net.state_dict()
    used = {name: value for name, value in weights.items() if not name.startswith(NOT_USED)}
    stem = "_conv_stem.weight"
    if stem in used and used[stem].ndim == 4:
        used[stem] = adapt_stem(used[stem], own[stem].shape[1])
    if missing := set(own) - set(used):
        raise InputError(f"--pretrained={source}: {len(missing)} weights are missing, such as {min(missing)}")
    wrong = [name for name in own if used[name].shape != own[name].shape]
    if wrong:
        raise InputError(f"--pretrained={source}: {wrong[0]} has another shape; is it for another backbone?")
    encoder.net.load_state_dict({name: used[name] for name in own})


def adapt_stem(weight: torch.Tensor, in_channels: int) -> torch.Tensor:
    """The first convolution for another number of channels, with the response to a grey image unchanged.

    Args:
        weight: (filters, channels, k, k).
        in_channels: channels wanted.
    """
    if weight.shape[1] == in_channels:
        return weight
    return weight.sum(1, keepdim=True).repeat(1, in_channels, 1, 1) / in_channels


class SarcoModel(pl.LightningModule):
    """Trains the network; its checkpoint carries the `RunDescription` it was made from."""

    def __init__(self, description: RunDescription) -> None:
        """Random weights; training gives it the encoder's, a checkpoint all of them.

        Args:
            description: network, labels and how to fit.
        """
        super().__init__()
        self.description = description
        in_channels = 3 if description.data.channel_3d else 1
        self.n_channels = description.labels.n_channels
        network = build_network(description.network, in_channels, self.n_channels)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = SegmentationLoss()
        # Sums over the epoch, brought together from all processes when it ends: logging with sync_dist would do so
        # whenever one process happens to look, and the others would wait for ever.
        self.train_loss = SumMetric(2)  # of losses, of slices; torchmetrics' MeanMetric waits for the GPU in each step
        self.train_scores = SegmentationScores(self.n_channels)
        self.val_scores = SegmentationScores(self.n_channels, keep_slices=True)
        self.val_loss_sums = SumMetric(2 * self.n_channels)
        self.slice_confusions: dict[int, torch.Tensor] = {}  # of the last validation, by slice

    @classmethod
    def from_checkpoint(cls, path: Path) -> "SarcoModel":
        """The model that a checkpoint describes, with its weights.

        Raises:
            CheckpointError: see `sarco.runs.load_checkpoint`, or the weights do not fit the description.
        """
        description, checkpoint = load_checkpoint(path)
        model = cls(description)
        try:
            model.load_state_dict(checkpoint["state_dict"])
        except (RuntimeError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{path}: weights do not fit the network it describes ({reason})") from None
        return model

    def load_first_weights(self) -> None:
        """Gives the encoder the weights that ``--pretrained`` asks for, and says in the description which they were."""
        weights = load_encoder_weights(self.network, self.description.network)
        self.description = replace(self.description, weights=weights)

    def forward(self, image: torch.Tensor, mix: Mix | None = None) -> torch.Tensor:
        """(B, C, R, C) in [0, 1] to logits (B, K, R, C)."""
        return self.network(image.contiguous(memory_format=torch.channels_last), mix)

    def make_target(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """The target (B, K, R, C), shares of each channel, and the weight (B, 1, R, C) of each pixel."""
        label = batch["label"]
        target = nn.functional.one_hot(label.clamp(min=0), self.n_channels).movedim(-1, 1).float()
        weight = batch["weight"].float()[:, None, None, None] * (label >= 0)[:, None]
        return target, weight

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Makes all chance of a step a function of seed, step and process, so that a run can go on exactly."""
        torch.manual_seed(self._step_rng(batch_idx).integers(2**63))

    def _step_rng(self, batch_idx: int) -> np.random.Generator:
        part = batch_idx % self.description.fit.accumulate_grad_batches
        seed = (SEED_OF_STEP, self.description.data.seed, self.global_step, self.global_rank, part)
        return np.random.default_rng(seed)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """The loss of a batch, mixed where that was asked for."""
        target, weight = self.make_target(batch)
        mix = draw_mix(self.description.mixup, len(target), self._step_rng(batch_idx))
        logits = self(batch["image"], mix)
        if mix:
            target, weight = mix_target(target, weight, mix)
        loss: torch.Tensor = self.loss(logits, target, weight)
        self.log("loss", loss, prog_bar=True, batch_size=len(target))
        self.train_loss.update(torch.stack([loss.detach() * len(target), torch.full_like(loss, len(target))]))
        if not mix:  # a mixed slice has no one truth to be scored against
            self.train_scores.update(torch.softmax(logits.detach().float(), dim=1), batch["label"], batch["index"])
        return loss

    def on_train_epoch_end(self) -> None:
        """Logs the scores of the training slices, as they were when each was learnt from."""
        total, n = self.train_loss.compute()
        self.log("train_loss", (total / n).float(), prog_bar=True)
        self.train_loss.reset()
        if self.train_scores.update_called:
            self._log_scores("train", self.train_scores.compute())
            self.train_scores.reset()

    def on_validation_epoch_start(self) -> None:
        """Measures the means and variances of batch normalisation anew, while a run trains.

        The running ones lag behind weights that change fast, and are those of augmented and mixed slices: after the
        first epochs a network that fits can predict nothing with them.
        """
        loader = getattr(getattr(self.trainer, "datamodule", None), "calibration_dataloader", None)
        if self.trainer.state.fn == TrainerFn.FITTING and loader:
            with torch.no_grad(), self.trainer.precision_plugin.val_step_context():
                self.calibrate(batch["image"].to(self.device) for batch in loader())

    def calibrate(self, images: Iterable[torch.Tensor]) -> None:
        """Sets the statistics of batch normalisation to the averages over some batches.

        Args:
            images: (B, C, R, C) in [0, 1] each.
        """
        layers = [module for module in self.network.modules() if isinstance(module, nn.BatchNorm2d)]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the plain average
            layer.train()
        for image in images:
            self(image)
        for layer in layers:
            layer.momentum = BATCH_NORM_MOMENTUM
            layer.eval()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Adds a batch to the epoch's scores."""
        logits = self(batch["image"])
        target, weight = self.make_target(batch)
        self.val_loss_sums.update(self.loss.sums(logits, target, weight))
        self.val_scores.update(torch.softmax(logits.float(), dim=1), batch["label"], batch["index"])

    def on_validation_epoch_end(self) -> None:
        """Logs loss and scores of the whole epoch, the same however it was cut into batches."""
        scores = self.val_scores.compute()
        self.slice_confusions = self.val_scores.synced_per_slice
        self.log("val_loss", self.loss.from_sums(self.val_loss_sums.compute()).float())
        self._log_scores("val", scores)
        names = list(self.description.labels.names.values())
        if len(names) > 1:
            for name, dice in zip(names, scores["dice_per_label"].tolist(), strict=True):
                if not math.isnan(dice):
                    self.log(f"val_dice_{name}", dice)
        self.val_scores.reset()
        self.val_loss_sums.reset()

    def _log_scores(self, side: str, scores: Mapping[str, torch.Tensor]) -> None:
        for name in ("dice", "iou", "accuracy", "ap", "area_error"):
            self.log(f"{side}_{name}", scores[name].float(), prog_bar=side == "val" and name in ("dice", "ap"))

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Logits (B, K, S, S)."""
        return self(batch["image"].as_tensor())

    def configure_optimizers(self) -> Any:
        """AdamW, with the scheduler that was asked for stepping once an epoch."""
        fit = self.description.fit
        optimiser = torch.optim.AdamW(self.parameters(), lr=fit.learning_rate, fused=True)
        scheduler = make_scheduler(optimiser, fit)
        if scheduler is None:
            return optimiser
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def on_train_start(self) -> None:
        """Sets the learning rate of this epoch, also where a resumed run has another rate or scheduler."""
        fit = self.description.fit
        for optimiser in self.trainer.optimizers:
            for group in optimiser.param_groups:
                group["initial_lr"] = fit.learning_rate
                group["lr"] = fit.learning_rate * rate_factor(fit, self.current_epoch)
        for config in self.trainer.lr_scheduler_configs:
            config.scheduler.last_epoch = self.current_epoch
            config.scheduler.base_lrs = [fit.learning_rate]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lets the checkpoint describe itself."""
        checkpoint["hyper_parameters"] = self.description.to_builtins()
