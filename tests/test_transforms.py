"""The crop as a MONAI transform: what goes in comes back, under MONAI's own Invertd, loaders and collation."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor, ThreadDataLoader, decollate_batch, list_data_collate
from monai.transforms import Compose, Invertd
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from sarco.batches.samples import scale_window
from sarco.core.training_options import DataOptions
from sarco.crop.body import find_body
from sarco.crop.grid import AIR_HU
from sarco.phantom.patient import Phantom, PhantomOptions, make_phantom
from sarco.scan.geometry import spacing_mm
from transforms import LINEAR, NEAREST, Cropd, Cropd_3D, as_meta_tensor, make_crop

Sample = dict[str, Any]
SIZE = 256


FIELD_MM = 360.0  # the phantoms' bodies fit in
KINDS = ("field", "box")
BOTH = pytest.mark.parametrize("kind", KINDS)


def options(
    image_size: int = SIZE, channel_3d: bool = False, kind: str = "field", field_mm: float = FIELD_MM
) -> DataOptions:
    """Options of a run with this crop."""
    pixel_mm = field_mm / image_size if kind == "field" else None
    return DataOptions(image_size=image_size, channel_3d=channel_3d, crop=kind, pixel_mm=pixel_mm)


def plane_affine(phantom: Phantom, plane: int) -> NDArray[np.float64]:
    """affine_lps of one plane."""
    affine = phantom.affine_lps.copy()
    affine[:3, 3] += plane * affine[:3, 2]
    return affine


def sample_of(phantom: Phantom, plane: int, n_channels: int = 1) -> Sample:
    """One uncropped sample."""
    last = phantom.hu.shape[2] - 1
    planes = [plane] if n_channels == 1 else [max(plane - 1, 0), plane, min(plane + 1, last)]
    hu = np.stack([phantom.hu[..., p] for p in planes]).astype(np.float32)
    affine = plane_affine(phantom, plane)
    label = np.ascontiguousarray(phantom.label_map[..., plane])[None]
    return {"image": as_meta_tensor(hu, affine), "label": as_meta_tensor(label, affine), "slice_index": plane}


def one_hot(label: torch.Tensor, n_labels: int) -> MetaTensor:
    """A perfect network's probability for a label map (1, S, S): (K, S, S)."""
    plain = label.as_tensor() if isinstance(label, MetaTensor) else label
    return MetaTensor(torch.nn.functional.one_hot(plain[0].long(), n_labels + 1).permute(2, 0, 1).float())


def invert(crop: Compose, image: MetaTensor, pred: MetaTensor, nearest: bool = False) -> MetaTensor:
    """`pred` on the grid of the slice that `image` was cropped from."""
    back = Invertd(keys="pred", transform=crop, orig_keys="image", nearest_interp=nearest)
    return back({"image": image, "pred": pred})["pred"]


class Slices(torch.utils.data.Dataset[Sample]):
    """Cropped samples of several phantoms."""

    def __init__(self, phantoms: list[Phantom], crop: Compose) -> None:
        self.places = [(phantom, plane) for phantom in phantoms for plane in range(phantom.hu.shape[2])]
        self.crop = crop

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: int) -> Sample:
        phantom, plane = self.places[place]
        return {**self.crop(sample_of(phantom, plane)), "place": place}


# --- the eight rules -------------------------------------------------------------------------------------------------


@BOTH
def test_rule_1_box_and_warp_travel_with_the_sample_and_not_on_the_object(
    phantoms: dict[str, Phantom], kind: str
) -> None:
    """Catches an object that remembers: the second sample would be put back with the third one's box."""
    crop = make_crop(options(kind=kind), ("image", "label"))
    (transform,) = crop.transforms
    crop(sample_of(phantoms["arms"], 0))
    monais_own = {"R", "_tracing"}
    before = copy.deepcopy({k: v for k, v in vars(transform).items() if k not in monais_own})
    sources = [sample_of(phantoms[name], plane) for name, plane in [("oblique", 0), ("arms", 1), ("anisotropic", 4)]]
    cropped = [crop(dict(source)) for source in sources]
    assert {k: v for k, v in vars(transform).items() if k not in monais_own} == before
    for source, sample in [*zip(sources, cropped, strict=True)][::-1]:
        restored = crop.inverse({"image": sample["image"], "label": sample["label"]})
        assert restored["label"].shape == source["label"].shape
        np.testing.assert_array_equal(restored["label"].numpy(), source["label"].numpy())


def test_rule_2_traces_hold_numbers_under_the_same_keys(phantoms: dict[str, Phantom]) -> None:
    """Catches traces that collate refuses, or mixes up between samples."""
    crop = make_crop(options(), ("image", "label"))
    samples = [crop(sample_of(phantoms[name], 0)) for name in ("oblique", "arms")]
    traces = [sample[key].applied_operations[-1]["extra_info"] for sample in samples for key in ("image", "label")]
    assert len({tuple(sorted(trace)) for trace in traces}) == 1
    for trace in traces:
        assert all(isinstance(value, (int, float, str, torch.Tensor)) for value in trace.values())
    batch = list_data_collate(samples)
    for one, sample in zip(decollate_batch(batch), samples, strict=True):
        ours, theirs = (s["image"].applied_operations[-1]["extra_info"] for s in (sample, one))
        for key in ("start", "scale", "affine"):
            np.testing.assert_array_equal(np.asarray(theirs[key]), np.asarray(ours[key]))


@BOTH
def test_rule_3_inverse_takes_the_keys_that_are_there_and_pops_once_each(
    phantoms: dict[str, Phantom], kind: str
) -> None:
    """Catches an inverse that needs the label, which inference has not, or that pops for keys that are absent."""
    crop = make_crop(options(kind=kind), ("image", "label"))
    sample = crop(sample_of(phantoms["oblique"], 1))
    assert [len(sample[key].applied_operations) for key in ("image", "label")] == [1, 1]
    restored = invert(crop, sample["image"], one_hot(sample["label"], 10))
    assert restored.shape == (11, 96, 120)
    assert len(sample["image"].applied_operations) == 1, "the batch's own trace must stay"
    both = crop.inverse({"image": sample["image"], "label": sample["label"]})
    assert [both[key].applied_operations for key in ("image", "label")] == [[], []]


@BOTH
def test_rule_4_the_trace_is_empty_after_the_way_back(phantoms: dict[str, Phantom], kind: str) -> None:
    """Catches inner helpers that trace themselves: the stack would never empty."""
    crop = make_crop(options(kind=kind), ("image", "label"))
    sample = crop(sample_of(phantoms["oblique"], 1))
    assert len(sample["image"].applied_operations) == 1
    restored = invert(crop, sample["image"], one_hot(sample["label"], 10))
    assert restored.applied_operations == []
    again = crop(crop.inverse({"image": sample["image"], "label": sample["label"]}))
    assert len(again["image"].applied_operations) == 1


def test_rule_5_the_object_that_ran_forward_inverts_and_nothing_is_lazy(phantoms: dict[str, Phantom]) -> None:
    """Catches a pipeline built anew for the way back: MONAI knows transforms by identity."""
    crop, twin = (make_crop(options(), ("image", "label")) for _ in range(2))
    assert crop.lazy is False
    sample = crop(sample_of(phantoms["oblique"], 1))
    with pytest.raises(RuntimeError):
        invert(twin, sample["image"], one_hot(sample["label"], 10))


@BOTH
def test_rule_7_probabilities_outside_the_box_are_0_and_argmax_says_background(
    phantoms: dict[str, Phantom], kind: str
) -> None:
    """Catches labels beyond the box, and ids between ids."""
    phantom = phantoms["arms"]
    crop = make_crop(options(kind=kind), ("image", "label"))
    sample = crop(sample_of(phantom, 1))
    everywhere = torch.zeros(4, SIZE, SIZE)
    everywhere[3] = 1
    restored = invert(crop, sample["image"], MetaTensor(everywhere)).as_tensor()
    box = find_body(phantom.hu[..., 1].astype(np.float32), (3.2, 3.2)).box
    side = FIELD_MM / 3.2 if kind == "field" else max(box.bottom - box.top, box.right - box.left)
    middle = (box.top + box.bottom) / 2, (box.left + box.right) / 2
    outside = np.ones(phantom.hu.shape[:2], bool)
    rows = slice(*(max(0, int(middle[0] + s * side / 2) + e) for s, e in ((-1, 0), (1, 1))))
    columns = slice(*(max(0, int(middle[1] + s * side / 2) + e) for s, e in ((-1, 0), (1, 1))))
    outside[rows, columns] = False
    assert outside.sum() > 1000
    assert not restored[:, torch.from_numpy(outside)].any()
    assert not restored.argmax(dim=0)[torch.from_numpy(outside)].any()
    label = crop.inverse({"image": sample["image"], "label": sample["label"]})["label"]
    assert set(label.unique().tolist()) <= set(np.unique(phantom.label_map).tolist())


def test_rule_7_labels_are_never_interpolated(phantoms: dict[str, Phantom]) -> None:
    """Catches muscle 3 between muscle 2 and muscle 4."""
    sample = make_crop(options(), ("image", "label"))(sample_of(phantoms["anisotropic"], 0))
    assert sample["label"].dtype == torch.uint8
    assert set(sample["label"].unique().tolist()) <= set(np.unique(phantoms["anisotropic"].label_map[..., 0]).tolist())


@pytest.mark.parametrize("pixel_mm", [None, 3.0])
def test_rule_8_three_slices_share_the_box_of_all_their_bodies(pixel_mm: float | None) -> None:
    """Catches three boxes, which would shift neighbours against each other, and the box of the middle slice alone."""
    hu = np.full((3, 100, 120), -1000, np.float32)
    for channel, columns in enumerate([slice(10, 60), slice(40, 80), slice(50, 110)]):
        hu[channel, 30:70, columns] = 40
    crop = Cropd_3D(keys=("image",), image_size=64, mode=LINEAR, pixel_mm=pixel_mm)
    axial = np.diag([2.0, 2.0, 5.0, 1.0])[:, [1, 0, 2, 3]]
    cropped = crop({"image": as_meta_tensor(hu, axial)})["image"]
    info = cropped.applied_operations[-1]["extra_info"]
    boxes = [find_body(channel, (2.0, 2.0)).box for channel in hu]
    union = boxes[0].union(boxes[1]).union(boxes[2])
    left_edge = float(info["start"][1]) + 0.5 - float(info["scale"][1]) / 2
    side = float(info["scale"][1]) * 64
    assert side == pytest.approx(union.right - union.left if pixel_mm is None else 64 * 3.0 * 1.125 / 2.0)
    assert left_edge + side / 2 == pytest.approx((union.left + union.right) / 2)
    lone = Cropd_3D(keys=("image",), image_size=64)
    with pytest.raises(ValueError, match="3 channels"):
        lone({"image": as_meta_tensor(hu[:1], np.eye(4))})
    with pytest.raises(ValueError, match="1 channels"):
        Cropd(keys=("image",), image_size=64)({"image": as_meta_tensor(hu, np.eye(4))})


@BOTH
def test_the_source_stays_as_it_was(phantoms: dict[str, Phantom], kind: str) -> None:
    """Catches a crop that writes its trace or its affine into the tensor it was given: a cached slice would drift."""
    crop = make_crop(options(kind=kind), ("image", "label"))
    source, untouched = (sample_of(phantoms["oblique"], 1) for _ in range(2))
    first = crop(dict(source))
    second = crop(dict(source))
    invert(crop, second["image"], one_hot(second["label"], 10))
    for key in ("image", "label"):
        np.testing.assert_array_equal(source[key].numpy(), untouched[key].numpy())
        np.testing.assert_array_equal(source[key].affine.numpy(), untouched[key].affine.numpy())
        assert source[key].applied_operations == []
        assert len(first[key].applied_operations) == len(second[key].applied_operations) == 1
        np.testing.assert_array_equal(first[key].affine.numpy(), second[key].affine.numpy())


# --- loaders ---------------------------------------------------------------------------------------------------------


def assert_batches_come_back(batches: Iterator[Mapping[str, Any]], data: Slices, dice: Callable[..., float]) -> None:
    """Each sample of each batch goes back onto its own slice."""
    seen = []
    for batch in batches:
        assert batch["image"].shape[1:] == (1, SIZE, SIZE)
        for sample in decollate_batch(dict(batch)):
            place = int(sample["place"])
            phantom, plane = data.places[place]
            restored = invert(data.crop, sample["image"], one_hot(sample["label"], 10))
            label_map = restored.as_tensor().argmax(dim=0).numpy()
            assert label_map.shape == phantom.label_map.shape[:2]
            assert dice(label_map, phantom.label_map[..., plane]) > 0.99
            np.testing.assert_allclose(restored.affine.numpy(), plane_affine(phantom, plane), atol=1e-6)
            assert restored.applied_operations == []
            seen.append(place)
    assert sorted(seen) == list(range(len(data)))


@BOTH
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_slices_of_different_sizes_come_back_from_one_batch(
    phantoms: dict[str, Phantom], dice: Callable[..., float], num_workers: int, shuffle: bool, kind: str
) -> None:
    """Catches a sample that is put back with another one's trace, also where workers cropped it."""
    data = Slices([phantoms["arms"], phantoms["oblique"]], make_crop(options(kind=kind), ("image", "label")))
    loader = DataLoader(data, batch_size=3, shuffle=shuffle, num_workers=num_workers, collate_fn=list_data_collate)
    assert_batches_come_back(iter(loader), data, dice)


@BOTH
def test_slices_come_back_from_a_thread_loader(
    phantoms: dict[str, Phantom], dice: Callable[..., float], kind: str
) -> None:
    """Catches state that a thread shares with the main program."""
    data = Slices([phantoms["arms"], phantoms["anisotropic"]], make_crop(options(kind=kind), ("image", "label")))
    loader = ThreadDataLoader(data, buffer_size=2, batch_size=3, num_workers=0, collate_fn=list_data_collate)
    assert_batches_come_back(iter(loader), data, dice)


# --- values ----------------------------------------------------------------------------------------------------------


@BOTH
def test_the_crop_shows_the_body_large_and_square(phantoms: dict[str, Phantom], kind: str) -> None:
    """Catches a stretched body, and an affine that does not say where the crop lies."""
    phantom = phantoms["oblique"]
    sample = make_crop(options(1024, kind=kind), ("image", "label"))(sample_of(phantom, 2))
    for key in ("image", "label"):
        row_mm, column_mm, slice_mm = spacing_mm(sample[key].affine.numpy())
        assert row_mm == pytest.approx(column_mm)
        assert slice_mm == pytest.approx(6.0)
    on_crop, on_slice = sample["label"].numpy()[0] > 0, phantom.label_map[..., 2] > 0
    found, expected = (
        (affine @ [*np.argwhere(muscle).mean(axis=0), 0, 1])[:3]
        for muscle, affine in [(on_crop, sample["label"].affine.numpy()), (on_slice, plane_affine(phantom, 2))]
    )
    np.testing.assert_allclose(found, expected, atol=0.3)  # mm; a pixel of the slice is 3.4 mm


@st.composite
def pictures(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]]:
    """HU (C, R, C) with a block of tissue anywhere, random ids, and an affine of any direction, maybe mirrored."""
    rows, columns, channels = draw(st.integers(20, 60)), draw(st.integers(20, 60)), draw(st.sampled_from([1, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    hu = np.full((channels, rows, columns), AIR_HU, np.float32)
    for channel in range(channels):
        top, left = rng.integers(0, rows - 12), rng.integers(0, columns - 12)
        hu[channel, top : top + rng.integers(10, 40), left : left + rng.integers(10, 40)] = 40
    hu += rng.normal(0, 10, hu.shape).astype(np.float32)
    label = rng.integers(0, 5, (1, rows, columns)).astype(np.uint8)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * draw(
        st.tuples(st.floats(2, 4), st.floats(2, 4), st.floats(1, 8))
    )
    affine[:3, 3] = rng.normal(size=3) * 200
    for axis in range(2):
        if draw(st.booleans()):
            hu, label = np.flip(hu, axis + 1), np.flip(label, axis + 1)
            affine[:3, 3] += affine[:3, axis] * (label.shape[axis + 1] - 1)
            affine[:3, axis] *= -1
    return np.ascontiguousarray(hu), np.ascontiguousarray(label), affine


def inside_crop(image: MetaTensor, shape: tuple[int, ...], margin: float) -> NDArray[np.bool_]:
    """Pixels of the slice whose centres lie in the crop, at least `margin` pixels of the slice from its border."""
    info = image.applied_operations[-1]["extra_info"]
    to_crop = np.linalg.inv(image.affine.numpy()) @ info["affine"].numpy()
    rows, columns = np.indices(shape)
    places = to_crop[:2, :2] @ np.stack([rows.ravel(), columns.ravel()]) + to_crop[:2, 3:]
    margin_pixels = margin / info["scale"].numpy()[:, None]
    within = (places > -0.5 + margin_pixels) & (places < image.shape[-1] - 0.5 - margin_pixels)
    return within.all(axis=0).reshape(shape)


@given(picture=pictures(), nearest=st.booleans(), kind=st.sampled_from(KINDS))
@settings(max_examples=120, deadline=None)
def test_any_label_map_comes_back_voxel_by_voxel(
    picture: tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]], nearest: bool, kind: str
) -> None:
    """Catches any shift, flip or mix-up: every voxel away from the crop's border has its own id again."""
    hu, label, affine = picture
    crop = make_crop(options(channel_3d=len(hu) == 3, kind=kind, field_mm=150), ("image", "label"))  # may be too small
    cropped = crop({"image": as_meta_tensor(hu, affine), "label": as_meta_tensor(label, affine)})
    scale = cropped["image"].applied_operations[-1]["extra_info"]["scale"]
    assume(float(scale.max()) <= 0.5)
    sure = inside_crop(cropped["image"], label.shape[1:], margin=1)
    assert sure.any()
    if nearest:  # the label map itself, by nearest-exact
        restored = crop.inverse({"image": cropped["image"], "label": cropped["label"]})
        np.testing.assert_array_equal(restored["label"].numpy()[0][sure], label[0][sure])
        back = restored["image"]
    else:  # a perfect network's probabilities, linear, then argmax
        back = invert(crop, cropped["image"], one_hot(cropped["label"], 4))
        np.testing.assert_array_equal(back.as_tensor().argmax(dim=0).numpy()[sure], label[0][sure])
    assert tuple(back.shape[1:]) == label.shape[1:]
    np.testing.assert_allclose(back.affine.numpy(), affine, atol=1e-9)
    assert back.applied_operations == []
    np.testing.assert_array_equal(np.asarray(cropped["image"].affine), np.asarray(cropped["label"].affine))


@given(picture=pictures(), kind=st.sampled_from(KINDS))
@settings(max_examples=50, deadline=None)
def test_invertd_with_nearest_interpolation_keeps_every_id(
    picture: tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]], kind: str
) -> None:
    """Catches MONAI's nearest mode that ends up linear, and ids that come back as their neighbours."""
    hu, label, affine = picture
    crop = make_crop(options(channel_3d=len(hu) == 3, kind=kind, field_mm=150), ("image", "label"))  # may be too small
    cropped = crop({"image": as_meta_tensor(hu, affine), "label": as_meta_tensor(label, affine)})
    assume(float(cropped["image"].applied_operations[-1]["extra_info"]["scale"].max()) <= 1)
    back = invert(crop, cropped["image"], MetaTensor(cropped["label"].as_tensor()), nearest=True)
    sure = inside_crop(cropped["image"], label.shape[1:], margin=1)
    np.testing.assert_array_equal(back.numpy()[0][sure], label[0][sure])


@BOTH
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_the_network_sees_a_patient_the_same_way_round_however_the_slice_is_stored(
    phantoms: dict[str, Phantom], transpose: bool, flips: tuple[bool, bool], kind: str
) -> None:
    """Catches left and right that a network mixes up, because rows or columns of a scan run the other way."""
    crop = make_crop(options(128, kind=kind), ("image", "label"))
    plain = sample_of(phantoms["anisotropic"], 2)
    hu, label, affine = plain["image"].numpy(), plain["label"].numpy(), plain["image"].affine.numpy().copy()
    for axis, flip in enumerate(flips, start=1):
        if flip:
            hu, label = np.flip(hu, axis), np.flip(label, axis)
            affine[:3, 3] += affine[:3, axis - 1] * (hu.shape[axis] - 1)
            affine[:3, axis - 1] *= -1
    if transpose:
        hu, label, affine = hu.swapaxes(1, 2), label.swapaxes(1, 2), affine[:, [1, 0, 2, 3]]
    stored = {"image": as_meta_tensor(hu.copy(), affine), "label": as_meta_tensor(label.copy(), affine)}
    expected, found = crop(plain), crop(stored)
    np.testing.assert_allclose(found["image"].numpy(), expected["image"].numpy(), atol=0.5)
    assert np.mean(found["label"].numpy() == expected["label"].numpy()) > 0.999
    np.testing.assert_allclose(found["image"].affine.numpy(), expected["image"].affine.numpy(), atol=1e-6)
    np.testing.assert_array_equal(crop.inverse(found)["label"].numpy(), label)


@BOTH
@pytest.mark.parametrize("image_size", [256, 512])
def test_the_area_of_muscle_survives_the_way_there_and_back(
    image_size: int, dice: Callable[..., float], kind: str
) -> None:
    """Catches a resampling that grows or shrinks masks: the area is the result that counts."""
    for seed in range(3):
        phantom = make_phantom(seed, PhantomOptions(n_slices=1, rows=256, columns=256, oblique=seed == 1))
        crop = make_crop(options(image_size, kind=kind), ("image", "label"))
        sample = crop(sample_of(phantom, 0))
        back = invert(crop, sample["image"], one_hot(sample["label"], 1)).as_tensor().argmax(dim=0).numpy()
        area, expected = int(back.sum()), int(phantom.label_map.sum())
        assert abs(area - expected) < 0.01 * expected
        assert dice(back, phantom.label_map[..., 0]) > 0.98


def test_the_window_maps_its_ends_to_0_and_1() -> None:
    """Catches a window that is not clipped, or that changes the HU it was given."""
    hu = torch.tensor([-1024.0, -250.0, 0.0, 250.0, 3000.0])
    np.testing.assert_allclose(scale_window(hu, -250, 250), [0, 0, 0.5, 1, 1])
    assert hu[0] == -1024


def test_make_crop_interpolates_images_and_not_labels() -> None:
    """Catches a pipeline whose modes are in the wrong order."""
    (crop,) = make_crop(options(channel_3d=True), ("label", "image")).transforms
    assert isinstance(crop, Cropd_3D)
    assert crop.mode == (NEAREST, LINEAR)
