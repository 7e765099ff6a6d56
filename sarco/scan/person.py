"""How large a person can be: what is beyond was measured in another unit than mm."""

from sarco.core.errors import InputError

# The bore of a CT is 70 to 90 cm wide, so neither pictures nor patients are wider. A child born at 28 weeks has a belly
# of about 240 mm around (Hadlock 1984, Radiology 152:497): a circle of 76 mm and 46 cm2. Limits lie beyond both ends,
# for what they catch is off by ten or a thousand: spacing in cm, in metres, or with its point lost.
FIELD_OF_VIEW_MM = (70.0, 1000.0)
_LEAST_SIDE_MM = 30.0  # of a picture that was cut around a part of the trunk
_MOST_RATIO = 5.0  # of the two spacings: pixels of scanners are square, and a unit mixed up in one makes it 10
TRUNK_WIDTH_MM = (60.0, 900.0)
TRUNK_DEPTH_MM = (45.0, 900.0)
TRUNK_CM2 = (25.0, 5000.0)


def check_field_of_view(name: str, shape: tuple[int, int], spacing_mm: tuple[float, float]) -> None:
    """Refuses a picture that is smaller or larger than any of a person's trunk, before anything is predicted.

    Args:
        name: of the slice or file, for the message.
        shape: (rows, columns).
        spacing_mm: distance between rows, then between columns.

    Raises:
        InputError: it is; the spacing is in another unit, probably.
    """
    rows_mm, columns_mm = shape[0] * spacing_mm[0], shape[1] * spacing_mm[1]
    ratio = max(spacing_mm) / min(spacing_mm)
    shorter, longer = sorted((rows_mm, columns_mm))
    if ratio > _MOST_RATIO:
        raise InputError(
            f"{name}: pixels are {spacing_mm[1]:.3g} mm wide and {spacing_mm[0]:.3g} mm high, which no CT has; "
            "its pixel spacing is damaged: correct it"
        )
    if shorter < _LEAST_SIDE_MM or not FIELD_OF_VIEW_MM[0] <= longer <= FIELD_OF_VIEW_MM[1]:
        raise InputError(
            f"{name}: the picture is {columns_mm:.3g} mm wide and {rows_mm:.3g} mm high, which no CT of a person is; "
            "its pixel spacing is not in mm, or damaged: correct it"
        )


def describe_misfit(width_mm: float, depth_mm: float, area_cm2: float) -> str:
    """Why a trunk on a slice is no person's; empty where it may be one.

    Args:
        width_mm: from the patient's left to the right.
        depth_mm: from front to back.
        area_cm2: of the trunk without arms.
    """
    for what, value, (least, most), unit in (
        ("wide", width_mm, TRUNK_WIDTH_MM, "mm"),
        ("deep", depth_mm, TRUNK_DEPTH_MM, "mm"),
        ("in area", area_cm2, TRUNK_CM2, "cm2"),
    ):
        if not least <= value <= most:
            return (
                f"the body is {value:.3g} {unit} {what}, and no person's is less than {least:g} or more than {most:g}"
            )
    return ""
