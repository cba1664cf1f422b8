"""Body styles of cars and vans, as polygons in unit coordinates.

Unit coordinates are (forward, up, side): forward and side in [-0.5, 0.5], up in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ROLES = (
    "body",
    "shade",
    "glow",
    "glass",
    "glint",
    "tyre",
    "rim",
    "plastic",
    "lamp",
    "tail",
    "plate",
)
_LOW = 0.17
"""Height of the body's lower edge."""


@dataclass(frozen=True)
class Style:
    """The side profile of a body; lengths in units of the vehicle, see the module.

    Attributes:
        kind: KITTI's class.
        size_m: Typical height, width, length in metres.
        belt: Height of the line below the windows.
        nose: Height of the bonnet's front edge.
        screen: Windscreen's base and top, forward.
        rear: Rear window's base and top, forward.
        roof_half: Half width of the roof.
        panes: Where each side window begins and ends along the side, in [0, 1] from the rear.
    """

    kind: str
    size_m: tuple[float, float, float]
    belt: float
    nose: float
    screen: tuple[float, float]
    rear: tuple[float, float]
    roof_half: float
    panes: tuple[tuple[float, float], ...]


STYLES: dict[str, Style] = {
    "saloon": Style(
        "Car",
        (1.45, 1.75, 4.5),
        0.64,
        0.5,
        (0.24, 0.07),
        (-0.34, -0.2),
        0.36,
        ((0.1, 0.5), (0.54, 0.92)),
    ),
    "hatch": Style(
        "Car",
        (1.48, 1.68, 3.8),
        0.62,
        0.5,
        (0.27, 0.12),
        (-0.475, -0.38),
        0.38,
        ((0.1, 0.48), (0.52, 0.92)),
    ),
    "estate": Style(
        "Car",
        (1.5, 1.76, 4.6),
        0.62,
        0.49,
        (0.23, 0.07),
        (-0.475, -0.42),
        0.38,
        ((0.04, 0.25), (0.29, 0.6), (0.64, 0.94)),
    ),
    "suv": Style(
        "Car",
        (1.7, 1.82, 4.4),
        0.61,
        0.52,
        (0.26, 0.14),
        (-0.48, -0.43),
        0.41,
        ((0.05, 0.24), (0.28, 0.6), (0.64, 0.94)),
    ),
    "coupe": Style(
        "Car", (1.34, 1.76, 4.3), 0.65, 0.5, (0.2, 0.0), (-0.4, -0.2), 0.35, ((0.16, 0.94),)
    ),
    "van": Style(
        "Van", (2.15, 1.9, 5.0), 0.52, 0.4, (0.42, 0.28), (-0.495, -0.485), 0.46, ((0.72, 0.95),)
    ),
    "bus": Style(
        "Van",
        (1.98, 1.86, 4.8),
        0.52,
        0.4,
        (0.43, 0.27),
        (-0.49, -0.47),
        0.44,
        ((0.04, 0.34), (0.37, 0.66), (0.7, 0.95)),
    ),
}


@dataclass(frozen=True, eq=False)
class Template:
    """Polygons of one style: corners, and for each polygon its slice, role, face and detail."""

    corners: NDArray[np.float64]
    starts: NDArray[np.int64]
    roles: NDArray[np.int64]
    faces: NDArray[np.int64]
    is_detail: NDArray[np.bool_]


@cache
def template(name: str) -> Template:
    """Build a style's polygons, in painting order for whoever looks from outside."""
    style, build = STYLES[name], _Builder()
    _undercarriage(build, style)
    _lower_body(build, style)
    _cabin(build, style)
    return build.finished()


class _Builder:
    """Collects polygons; a polygon without a face is its own face."""

    def __init__(self) -> None:
        self.polygons: list[NDArray[np.float64]] = []
        self.roles: list[int] = []
        self.faces: list[int] = []
        self.details: list[bool] = []

    def add(
        self,
        points: Sequence[Sequence[float]],
        role: str,
        face: int | None = None,
        detail: bool = False,
    ) -> int:
        self.polygons.append(np.asarray(points, np.float64))
        self.roles.append(ROLES.index(role))
        self.faces.append(len(self.faces) if face is None else face)
        self.details.append(detail)
        return self.faces[-1]

    def patch(self, face: int, uv: Sequence[float], role: str, *, detail: bool = False) -> None:
        """Add a rectangle (u0, v0, u1, v1) in a quad's own coordinates, v upwards."""
        u0, v0, u1, v1 = uv
        quad = self.polygons[face]
        u, v = np.array([u0, u1, u1, u0]), np.array([v0, v0, v1, v1])
        weights = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=1)
        self.add((weights @ quad).tolist(), role, face, detail)

    def finished(self) -> Template:
        lengths = [len(p) for p in self.polygons]
        return Template(
            np.concatenate(self.polygons),
            np.cumsum([0, *lengths]),
            np.array(self.roles),
            np.array(self.faces),
            np.array(self.details),
        )


def _wheel_places(style: Style) -> tuple[tuple[float, float], float, float]:
    """Return the wheels' forward places and their radius in units of length and of height."""
    height, _, length = style.size_m
    radius_m = 0.33
    return (-0.29, 0.31), radius_m / length, radius_m / height


def _undercarriage(build: _Builder, style: Style) -> None:
    places, r_forward, r_up = _wheel_places(style)
    low, high = 0.35 * r_up, 1.2 * r_up
    for side in (-0.42, 0.42):
        build.add(
            [(-0.43, low, side), (0.43, low, side), (0.43, high, side), (-0.43, high, side)], "tyre"
        )
    for end in (-0.46, 0.46):
        build.add(
            [(end, low, -0.42), (end, low, 0.42), (end, high, 0.42), (end, high, -0.42)], "tyre"
        )
    for place in places:
        for sign in (-1.0, 1.0):
            for end in (place - 0.8 * r_forward, place + 0.8 * r_forward):
                a, b = 0.5 * sign, 0.37 * sign
                build.add([(end, 0, a), (end, 0, b), (end, high, b), (end, high, a)], "tyre")


def _lower_body(build: _Builder, style: Style) -> None:
    low, belt = _LOW, style.belt
    shoulder, tail = _shoulder_and_tail(style)
    for sign in (-1.0, 1.0):
        w = 0.5 * sign
        outline = [(-0.45, low), (0.43, low), (0.43, shoulder), (style.screen[0], belt)]
        side = build.add([(at, up, w) for at, up in [*outline, (-0.45, tail)]], "body")
        _side_details(build, style, side, w)
        for end, at, top, end_top, inner in (
            (0.5, 0.43, shoulder, shoulder - 0.03, 0.36 * sign),
            (-0.5, -0.45, tail, tail, 0.4 * sign),
        ):
            corner = build.add(
                [(end, low, inner), (at, low, w), (at, top, w), (end, end_top, inner)], "body"
            )
            build.patch(corner, (0, 0, 1, 0.22), "plastic")
            lamp = (0, 0.55, 0.75, 0.93) if end > 0 else (0, 0.5, 0.8, 0.95)
            build.patch(corner, lamp, "lamp" if end > 0 else "tail")
    _front_and_back(build, style)
    _lids(build, style)


def _shoulder_and_tail(style: Style) -> tuple[float, float]:
    """Return how high the front wings and the tail are."""
    return style.nose + 0.05, style.belt if style.rear[0] > -0.45 else style.belt + 0.01


def _front_and_back(build: _Builder, style: Style) -> None:
    low, nose, tail = _LOW, style.nose, _shoulder_and_tail(style)[1]
    front = build.add(
        [(0.5, low, -0.36), (0.5, low, 0.36), (0.5, nose, 0.36), (0.5, nose, -0.36)], "body"
    )
    for uv, role, detail in (
        ((0, 0, 1, 0.22), "plastic", False),
        ((0.22, 0.52, 0.78, 0.88), "plastic", False),
        ((0, 0.55, 0.2, 0.93), "lamp", False),
        ((0.8, 0.55, 1, 0.93), "lamp", False),
        ((0.15, 0.08, 0.85, 0.3), "tyre", True),
        ((0.35, 0.28, 0.65, 0.46), "plate", True),
        ((0.22, 0.67, 0.78, 0.72), "rim", True),
    ):
        build.patch(front, uv, role, detail=detail)
    back = build.add(
        [(-0.5, low, -0.4), (-0.5, low, 0.4), (-0.5, tail, 0.4), (-0.5, tail, -0.4)], "body"
    )
    for uv, role, detail in (
        ((0, 0, 1, 0.24), "plastic", False),
        ((0, 0.5, 0.16, 0.95), "tail", False),
        ((0.84, 0.5, 1, 0.95), "tail", False),
        ((0, 0.3, 1, 0.45), "shade", True),
        ((0.34, 0.5, 0.66, 0.68), "plate", True),
        ((0.2, 0.74, 0.8, 0.78), "shade", True),
    ):
        build.patch(back, uv, role, detail=detail)


def _lids(build: _Builder, style: Style) -> None:
    """Add the bonnet and the boot lid."""
    belt, nose = style.belt, style.nose
    shoulder, tail = _shoulder_and_tail(style)
    base = style.screen[0]
    build.add(
        [(0.43, shoulder, -0.5), (0.5, nose, -0.36), (0.5, nose, 0.36), (0.43, shoulder, 0.5)],
        "glow",
    )
    build.add(
        [(base, belt, -0.5), (0.43, shoulder, -0.5), (0.43, shoulder, 0.5), (base, belt, 0.5)],
        "glow",
    )
    build.add(
        [(-0.5, tail, -0.4), (-0.45, tail, -0.5), (-0.45, tail, 0.5), (-0.5, tail, 0.4)], "body"
    )
    build.add(
        [
            (-0.45, tail, -0.5),
            (style.rear[0], belt, -0.5),
            (style.rear[0], belt, 0.5),
            (-0.45, tail, 0.5),
        ],
        "body",
    )


def _side_details(build: _Builder, style: Style, side: int, w: float) -> None:
    low, belt = _LOW, style.belt

    def strip(l0: float, l1: float, v0: float, v1: float, role: str, detail: bool) -> None:
        h0, h1 = (low + (belt - low) * v for v in (v0, v1))
        build.add([(l0, h0, w), (l1, h0, w), (l1, h1, w), (l0, h1, w)], role, side, detail)

    strip(-0.45, 0.43, 0.0, 0.14, "plastic", False)
    strip(-0.45, 0.43, 0.14, 0.48, "shade", False)
    strip(-0.43, 0.3, 0.72, 0.8, "glow", True)
    seams = sorted({start for start, _ in style.panes} | {style.panes[-1][1]})
    span = style.screen[0] - style.rear[0]
    for u in seams:
        at = style.rear[0] + u * span
        strip(at - 0.004, at + 0.002, 0.16, 0.98, "tyre", True)
        strip(at + 0.02, at + 0.055, 0.8, 0.86, "tyre", True)
    places, r_forward, r_up = _wheel_places(style)
    turn = np.linspace(0, 2 * np.pi, 19)[:-1]
    for place in places:
        for scale, role, detail in (
            (1.16, "tyre", False),
            (1.0, "tyre", False),
            (0.66, "rim", False),
        ):
            ring = [
                (place + scale * r_forward * c, max(r_up + scale * r_up * s, 0.0), w)
                for c, s in zip(np.cos(turn), np.sin(turn), strict=True)
            ]
            build.add(ring, role, side, detail)
        for angle in np.arange(5) * 2 * np.pi / 5:
            spoke = [
                (place + r_forward * r * np.cos(angle + t), r_up + r_up * r * np.sin(angle + t), w)
                for r, t in ((0.2, -0.5), (0.56, -0.3), (0.56, 0.3), (0.2, 0.5))
            ]
            build.add(spoke, "plastic", side, True)


def _cabin(build: _Builder, style: Style) -> None:
    belt, roof, base = style.belt, style.roof_half, 0.48
    (s0, s1), (r0, r1) = style.screen, style.rear
    for sign in (-1.0, 1.0):
        quad = [
            (r0, belt, base * sign),
            (s0, belt, base * sign),
            (s1, 0.97, roof * sign),
            (r1, 0.97, roof * sign),
        ]
        side = build.add(quad, "body")
        for u0, u1 in style.panes:
            build.patch(side, (u0, 0.06, u1, 0.88), "glass")
            build.patch(side, (u0 + 0.02, 0.1, u0 + 0.4 * (u1 - u0), 0.6), "glint", detail=True)
    screen = build.add(
        [(s0, belt, -base), (s0, belt, base), (s1, 0.97, roof), (s1, 0.97, -roof)], "body"
    )
    build.patch(screen, (0.06, 0.05, 0.94, 0.94), "glass")
    build.patch(screen, (0.1, 0.5, 0.9, 0.9), "glint", detail=True)
    window = build.add(
        [(r0, belt, -base), (r0, belt, base), (r1, 0.97, roof), (r1, 0.97, -roof)], "body"
    )
    top = 0.94 if style.kind == "Car" else 0.9
    build.patch(window, (0.09, 0.1, 0.91, top), "glass")
    build.patch(window, (0.14, 0.5, 0.6, top - 0.08), "glint", detail=True)
    build.add(
        [
            (s1, 0.97, -roof),
            (s1 - 0.06, 1, -roof + 0.04),
            (s1 - 0.06, 1, roof - 0.04),
            (s1, 0.97, roof),
        ],
        "glow",
    )
    build.add(
        [
            (r1, 0.97, -roof),
            (r1 + 0.04, 1, -roof + 0.04),
            (r1 + 0.04, 1, roof - 0.04),
            (r1, 0.97, roof),
        ],
        "body",
    )
    for sign in (-1.0, 1.0):
        a, b = roof * sign, (roof - 0.04) * sign
        build.add([(r1, 0.97, a), (s1, 0.97, a), (s1 - 0.06, 1, b), (r1 + 0.04, 1, b)], "body")
        mirror = [
            (s0 - 0.02, belt + 0.02, 0.49 * sign),
            (s0 - 0.02, belt + 0.02, 0.57 * sign),
            (s0 - 0.02, belt + 0.13, 0.57 * sign),
            (s0 - 0.02, belt + 0.13, 0.49 * sign),
        ]
        build.add(mirror, "shade")
