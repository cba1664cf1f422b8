"""SVG pictures of shapes, text and images, in colours that suit a light and a dark page.

A picture is `WIDTH` units wide, so that its text stays readable on a telephone.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

WIDTH = 460
"""Width of a picture, in its units."""
FRAME_PX = 690
"""Width of an image in it, in pixels."""
LINE = 17
"""Height of a line of text, in units."""
JPEG_QUALITY = 78

LIGHT = {
    "ink": "#1f2328",
    "soft": "#59636e",
    "line": "#b6bfc9",
    "panel": "#eef1f5",
    "blue": "#0a62c4",
    "orange": "#b35900",
    "green": "#1a7f37",
    "red": "#c2322d",
}
DARK = {
    "ink": "#e6edf3",
    "soft": "#a3adb9",
    "line": "#5a6472",
    "panel": "#2b313d",
    "blue": "#6cb6ff",
    "orange": "#f0a050",
    "green": "#57c26d",
    "red": "#ff7b72",
}
"""The same on a dark page."""
ON_IMAGES = {"truth": "#39ff6a", "teacher": "#ff9a1f", "student": "#3fc3ff"}
"""What is drawn on a frame, whatever the page."""


@dataclass(eq=False)
class Drawing:
    """A picture that grows element by element.

    Attributes:
        name: What its file and its ids are called.
        title: What it shows, for those who cannot see it.
        height: In units.
    """

    name: str
    title: str
    height: float
    _elements: list[str] = field(default_factory=list)

    def text(  # noqa: PLR0913 - what makes a text
        self,
        x: float,
        y: float,
        words: str,
        colour: str = "ink",
        *,
        size: float = 13,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """Write a line; its baseline lies at y."""
        weight = ' font-weight="600"' if bold else ""
        self._elements.append(
            f'<text x="{x:g}" y="{y:g}" class="{colour}" font-size="{size:g}" '
            f'text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def lines(self, x: float, y: float, words: Iterable[str], colour: str = "soft") -> None:
        """Write lines below one another, in small letters."""
        for index, line in enumerate(words):
            self.text(x, y + LINE * index, line, colour, size=12)

    def rect(  # noqa: PLR0913 - four sides and how it looks
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colour: str = "panel",
        *,
        filled: bool = True,
        opacity: float = 1,
        stroke: float = 1.5,
    ) -> None:
        """Draw a rectangle, filled or as an outline."""
        look = f'class="{colour}"' if filled else f'class="{colour}-line" stroke-width="{stroke:g}"'
        round_ = ' rx="5"' if colour == "panel" else ""
        self._elements.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{round_} '
            f"{look}{_opacity(opacity)}/>"
        )

    def boxes(
        self,
        boxes: NDArray[np.floating] | Sequence[Sequence[float]],
        colour: str,
        *,
        stroke: float = 1.5,
        opacity: float = 1,
    ) -> None:
        """Draw boxes, (N, 4) xyxy in units of the picture."""
        for x0, y0, x1, y1 in boxes:
            outline = {"filled": False, "opacity": opacity, "stroke": stroke}
            self.rect(x0, y0, x1 - x0, y1 - y0, colour, **outline)  # type: ignore[arg-type]

    def path(
        self, points: Iterable[tuple[float, float]], colour: str = "soft", *, dashed: bool = False
    ) -> None:
        """Join points by lines."""
        joined = "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="4 3"' if dashed else ""
        self._elements.append(f'<path d="M{joined}" class="{colour}-line"{dashes}/>')

    def arrow(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Draw an arrow that goes down or to the right."""
        self.path([(x0, y0), (x1, y1)])
        dx, dy = (5, 0) if y0 == y1 else (0, 5)
        self.path([(x1 - dx - dy, y1 - dy - dx), (x1, y1), (x1 - dx + dy, y1 - dy + dx)])

    def bars(
        self, bars: Iterable[tuple[float, float, float, float]], colour: str, opacity: float = 1
    ) -> None:
        """Draw filled rectangles without a gap as one shape: x, y, width and height of each."""
        shape = "".join(f"M{x:.1f},{y:.1f}h{w:.1f}v{h:.1f}h{-w:.1f}z" for x, y, w, h in bars)
        self._elements.append(f'<path d="{shape}" class="{colour}"{_opacity(opacity)}/>')

    def image(self, pixels: NDArray[np.uint8], x: float, y: float, width: float) -> float:
        """Put an RGB image; return its height in units."""
        height = width * float(pixels.shape[0]) / float(pixels.shape[1])
        data = _jpeg(pixels) if pixels.shape[1] > FRAME_PX else _png(pixels)
        look = "auto" if pixels.shape[1] > FRAME_PX else "pixelated"
        self._elements.append(
            f'<image x="{x:g}" y="{y:g}" width="{width:g}" height="{height:.1f}" href="{data}" '
            f'style="image-rendering:{look}"/>'
        )
        return height

    def svg(self) -> str:
        """Return the file."""
        body = "\n".join(self._elements)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="concept" role="img" '
            f'viewBox="0 0 {WIDTH} {self.height:g}" data-search-exclude="">\n'
            f"<title>{escape(self.title)}</title>\n<style>{_style()}</style>\n{body}\n</svg>\n"
        )


def _opacity(opacity: float) -> str:
    return "" if opacity == 1 else f' opacity="{opacity:.2g}"'


def _style() -> str:
    """Return the colours: those of the system, or of the page where it has a scheme of its own."""
    light, dark = (
        "".join(f"--{name}:{value};" for name, value in colours.items())
        for colours in (LIGHT, DARK)
    )
    classes = "".join(
        f".concept .{name}{{fill:var(--{name})}}"
        f".concept .{name}-line{{fill:none;stroke:var(--{name})}}"
        for name in LIGHT
    ) + "".join(
        f".concept .{name}-line{{fill:none;stroke:{colour}}}" for name, colour in ON_IMAGES.items()
    )
    return (
        ".concept{display:block;width:100%;max-width:580px;margin:1em auto;"
        f"font-family:system-ui,sans-serif;{light}}}"
        f"@media (prefers-color-scheme:dark){{.concept{{{dark}}}}}"
        f"[data-md-color-scheme=default] .concept{{{light}}}"
        f"[data-md-color-scheme=slate] .concept{{{dark}}}{classes}"
    )


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    size = (FRAME_PX, round(FRAME_PX * pixels.shape[0] / pixels.shape[1]))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return _uri(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _png(pixels: NDArray[np.uint8]) -> str:
    return _uri(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _uri(suffix: str, pixels: NDArray[np.integer | np.floating], options: Sequence[int]) -> str:
    _, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    kind = {".jpg": "jpeg", ".png": "png"}[suffix]
    return f"data:image/{kind};base64," + b64encode(data.tobytes()).decode("ascii")
