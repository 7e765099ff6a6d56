"""Draws docs/invented-patients.png: a named picture of each thing that varies in patients and examinations."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import harness
import numpy as np

from sarco.anatomy.build import PHASE_HU, Build, draw_build
from sarco.anatomy.illness import Illness
from sarco.anatomy.paint import body_from_world
from sarco.examination.scanner import ScannerDraw, expose
from sarco.examination.setting import SettingDraw
from sarco.phantom.body import draw_anatomy, paint_slice

# Name: height in mm above L3, what differs in the setting, what differs in the scanner.
PICTURES: dict[str, tuple[float, Mapping[str, float], Mapping[str, float]]] = {
    "ordinary": (0, {}, {}),
    "soft kernel": (0, {}, {"blur_mm": 1.0}),
    "lung kernel": (0, {}, {"blur_mm": 0.3, "enhancement": 0.9}),
    "5 mAs, streaks": (-120, {}, {"mas": 5, "streaks": 0.6, "modulation": 0.1}),
    "70 kV": (0, {}, {"kv": 70}),
    "140 kV": (0, {}, {"kv": 140}),
    "beam hardening": (-172, {}, {"hardening": 0.9, "mas": 250}),
    "artificial hip": (-172, {"hips": 1}, {"metal": 0.005}),
    "pedicle screws": (6, {"screws": 3}, {"metal": 0.01}),
    "clips": (0, {"clips": 7}, {}),
    "motion": (40, {}, {"motion_mm": 8, "motion_deg": 60}),
    "slices of 10 mm": (60, {}, {"thickness_mm": 10, "planes": 5}),
    "slices of 0.6 mm": (60, {}, {"thickness_mm": 0.6}),
    "circle, -3024": (0, {"arms": 1}, {"circle": 0.85, "padding_hu": -3024, "rim_hu": 200}),
    "circle, 0": (0, {}, {"circle": 0.95, "padding_hu": 0}),
    "8 bits": (0, {}, {"window_width": 400}),
    "lossy": (0, {}, {"window_width": 400, "jpeg_quality": 15}),
    "pixels of 3 mm": (0, {"pixel_mm": 3.0}, {}),
    "cut view": (0, {"view_cut": 0.7}, {}),
    "flat couch": (0, {"couch": 1, "mattress_mm": 30}, {}),
    "trapezoid couch": (0, {"couch": 3, "rails": 2500}, {}),
    "no couch": (0, {"couch": 0}, {}),
    "blankets": (0, {"blankets": 4, "folds": 0.12, "sheet_mm": 6}, {}),
    "arms beside": (30, {"arms": 1}, {}),
    "arm touching": (30, {"arms": 4, "arm_gap_mm": -4}, {}),
    "forearms across": (0, {"arms": 2}, {}),
    "hands on the belly": (0, {"arms": 3}, {}),
    "prone": (0, {"lying_deg": 180, "sag": 0.8}, {}),
    "prone, not told": (0, {"lying_deg": 180, "told": 0, "sag": 0.8}, {}),
    "on the left side": (0, {"lying_deg": 90, "sag": 0.8}, {}),
    "soft and rolled": (0, {"sag": 1.0, "roll_deg": 12}, {}),
    "leads and tubes": (60, {"leads": 4, "tubes": 2}, {}),
    "stoma bag": (-50, {"bag_mm": 40}, {}),
    "drain": (0, {"drain_mm": 5, "place_0": 0.3}, {}),
    "pump": (0, {"device_mm": 34}, {}),
}
# Name: height, what differs in the build, what the patient has.
PATIENTS: dict[str, tuple[float, Mapping[str, Any], Mapping[str, float]]] = {
    "cachectic": (0, {"fat_mm": 3.0, "half_width_mm": 122.0, "front_mm": 78.0, "paraspinal_mm": 21.0}, {}),
    "obese": (0, {"fat_mm": 42.0, "half_width_mm": 172.0, "front_mm": 150.0}, {}),
    "wasted": (0, {"wall_mm": 7.5, "rectus_mm": 5.0, "psoas_mm": 9.0, "paraspinal_mm": 21.0}, {}),
    "athletic": (0, {"wall_mm": 20.0, "rectus_mm": 14.0, "psoas_mm": 21.0, "paraspinal_mm": 34.0}, {}),
    "myosteatosis": (0, {"marbling": 0.45, "muscle_hu": 12.0}, {}),
    "scoliosis": (0, {"bend": (9.0, 1.4)}, {}),
    "native": (40, {"hu": PHASE_HU["native"]}, {}),
    "arterial": (40, {"hu": PHASE_HU["arterial"]}, {}),
    "ascites": (0, {}, {"ascites": 1.0}),
    "oedema": (0, {}, {"oedema": 1.0}),
    "cysts": (40, {}, {"cysts": 8}),
    "masses": (20, {}, {"masses": 6, "mass_mm": 20}),
    "aneurysm": (10, {}, {"aneurysm": 3.0}),
    "one kidney": (40, {}, {"lost_kidney": 1}),
    "stoma": (-20, {}, {"stoma": 1}),
    "hernia": (-20, {"fat_mm": 30.0}, {"hernia_mm": 30}),
    "lower chest": (150, {}, {}),
    "pelvis": (-110, {}, {}),
    "hips": (-172, {}, {}),
}
EMPTY: Mapping[str, Any] = {}
SEED = 11
SIDE, COLUMNS, TILE = 320, 9, 192


def picture(
    z_mm: float,
    around: Mapping[str, float] = EMPTY,
    how: Mapping[str, float] = EMPTY,
    build: Mapping[str, Any] = EMPTY,
    has: Mapping[str, float] = EMPTY,
) -> np.ndarray:
    """One slice of a patient, (TILE, TILE) grey, -160 to 240 HU with air a little above black."""
    setting, scanner, illness = SettingDraw(**around), ScannerDraw(**how), Illness(**has)
    patient_rng, organ_rng, noise_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(SEED).spawn(3))
    drawn: Build = replace(draw_build(patient_rng), **build)
    anatomy = draw_anatomy(drawn, organ_rng, setting, illness)
    width_mm = 2 * max(anatomy.extent.half_width_mm, anatomy.extent.low_mm) * setting.shown + 90 * (setting.arms > 0)
    pixel_mm = setting.pixel_mm if setting.pixel_mm > 2 else width_mm / SIDE
    side = round(width_mm / pixel_mm)
    lps = np.eye(4)
    lps[:3, :3] = np.array([[0, pixel_mm, 0], [pixel_mm, 0, 0], [0, 0, 1]])
    lps[:3, 3] = -pixel_mm * side / 2, -pixel_mm * side / 2, z_mm * anatomy.build.scale
    planes = []
    for offset in scanner.plane_offsets_mm():
        moved = lps.copy()
        moved[2, 3] += offset
        planes.append(paint_slice((side, side), body_from_world(anatomy.build, np.zeros(3)) @ moved, anatomy).hu)
    hu = expose(planes, (pixel_mm, pixel_mm), scanner, noise_rng).astype(np.float32)
    grey = np.maximum((hu + 160) / 400 * 255, (hu + 1050).clip(0, 300) / 300 * 60).clip(0, 255)
    how = cv2.INTER_NEAREST if side < TILE else cv2.INTER_AREA
    return cv2.resize(grey.astype(np.uint8), (TILE, TILE), interpolation=how)


def main() -> None:
    """Writes the sheet."""
    pictures = {name: picture(z_mm, build=build, has=has) for name, (z_mm, build, has) in PATIENTS.items()}
    pictures |= {name: picture(z_mm, around, how) for name, (z_mm, around, how) in PICTURES.items()}
    tiles = []
    for name, tile in pictures.items():
        strip = np.zeros((18, TILE), np.uint8)
        cv2.putText(strip, name, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1, cv2.LINE_AA)
        tiles.append(np.vstack([tile, strip]))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    out = harness.ROOT / "docs" / "invented-patients.png"
    cv2.imwrite(str(out), np.vstack(rows), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(out)


if __name__ == "__main__":
    main()
