"""What augmentation does to pixels: at once on the host, or later for a whole batch on its device.

Each change is drawn on the host. ``applied`` is what the host does to one picture; ``together``
does the same to a batch of uint8 pictures, in as many operations as for one. Where resizing on the
host rounds in integers and a device computes in float32, a level of 255 may differ by one, and what
follows may make that a few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PHOTOMETRIC = v2.RandomPhotometricDistort(p=0.5)
"""Draws and applies what `Distort` is."""

_GREY = (0.2989, 0.587, 0.114)
"""The parts of red, green and blue in torchvision's grey."""


@dataclass(frozen=True)
class Mirror:
    """Left and right change sides."""

    def applied(self, pixels: Tensor) -> Tensor:
        """Change uint8 (3, H, W)."""
        mirrored: Tensor = functional.horizontal_flip(pixels)
        return mirrored

    @staticmethod
    def together(pixels: Tensor, changes: Sequence[Mirror | None]) -> Tensor:
        """Change those of a batch, uint8 (B, 3, H, W), that have one."""
        chosen = _column([float(change is not None) for change in changes], pixels) > 0
        return torch.where(chosen, pixels.flip(-1), pixels)


@dataclass(frozen=True)
class Cut:
    """A window is resized to a size.

    Attributes:
        top: Its first row.
        left: Its first column.
        height: Its rows; in a batch at most those of the picture.
        width: Its columns; likewise.
        hw: Height and width of the result; in a batch those of the picture.
    """

    top: int
    left: int
    height: int
    width: int
    hw: tuple[int, int]

    def applied(self, pixels: Tensor) -> Tensor:
        """Change uint8 (3, H, W)."""
        cut: Tensor = functional.resized_crop(
            pixels, self.top, self.left, self.height, self.width, size=list(self.hw)
        )
        return cut

    @staticmethod
    def together(pixels: Tensor, changes: Sequence[Cut | None]) -> Tensor:
        """Enlarge the windows of a batch, uint8 (B, 3, H, W), to its own size, bilinearly."""
        height, width = pixels.shape[-2:]
        whole = Cut(0, 0, height, width, (height, width))
        cuts = [whole if change is None else change for change in changes]
        rows = _places([(cut.top, cut.height) for cut in cuts], height, pixels.device)
        columns = _places([(cut.left, cut.width) for cut in cuts], width, pixels.device)
        x = (2 * columns / max(1, width - 1) - 1)[:, None, :].expand(-1, height, -1)
        y = (2 * rows / max(1, height - 1) - 1)[:, :, None].expand(-1, -1, width)
        places = torch.stack([x, y], -1)
        found = F.grid_sample(pixels.float(), places, padding_mode="border", align_corners=True)
        return found.round().to(torch.uint8)


@dataclass(frozen=True)
class Resize:
    """All pictures of a batch get another size.

    Attributes:
        hw: The size.
    """

    hw: tuple[int, int]

    def applied(self, pixels: Tensor) -> Tensor:
        """Change uint8 (..., 3, H, W)."""
        resized: Tensor = functional.resize(pixels, list(self.hw))
        return resized

    @staticmethod
    def together(pixels: Tensor, changes: Sequence[Resize | None]) -> Tensor:
        """Change all of a batch, uint8 (B, 3, H, W), as the first says."""
        return pixels if changes[0] is None else changes[0].applied(pixels)


@dataclass(frozen=True)
class Distort:
    """Brightness, contrast, saturation, hue and the order of channels.

    Attributes:
        brightness: Factor of all values.
        contrast: Factor of their distance from the mean grey.
        contrast_first: Whether contrast comes before saturation and hue.
        saturation: Factor of their distance from their grey.
        hue: Share of a turn by which hues move; None moves none.
        channels: Which channel each becomes.
    """

    brightness: float | None
    contrast: float | None
    contrast_first: bool
    saturation: float | None
    hue: float | None
    channels: tuple[int, ...] | None

    @classmethod
    def drawn(cls, pixels: Tensor) -> Distort:
        """Draw one from torch's global generator."""
        drawn = PHOTOMETRIC.make_params([pixels])
        order = drawn["channel_permutation"]
        return cls(
            drawn["brightness_factor"],
            drawn["contrast_factor"],
            drawn["contrast_before"],
            drawn["saturation_factor"],
            drawn["hue_factor"],
            None if order is None else tuple(order.tolist()),
        )

    def applied(self, pixels: Tensor) -> Tensor:
        """Change uint8 (3, H, W)."""
        params: dict[str, Any] = {
            "brightness_factor": self.brightness,
            "contrast_factor": self.contrast,
            "contrast_before": self.contrast_first,
            "saturation_factor": self.saturation,
            "hue_factor": self.hue,
            "channel_permutation": None if self.channels is None else list(self.channels),
        }
        distorted: Tensor = PHOTOMETRIC.transform(pixels, params)
        return distorted

    @staticmethod
    def together(pixels: Tensor, changes: Sequence[Distort | None]) -> Tensor:
        """Change a batch, uint8 (B, 3, H, W), rounding down after each change as torchvision."""
        some = [change or _UNCHANGED for change in changes]
        x = pixels.float()
        x = _blended(x, torch.zeros_like, [c.brightness for c in some])
        first, last = (
            [c.contrast if c.contrast_first is early else None for c in some]
            for early in (True, False)
        )
        x = _blended(x, _mean_grey, first)
        x = _blended(x, _grey, [c.saturation for c in some])
        x = _turned(x, [c.hue for c in some])
        x = _blended(x, _mean_grey, last)
        orders = torch.tensor([c.channels or (0, 1, 2) for c in some]).to(x.device)
        return x.gather(1, orders[:, :, None, None].expand_as(x)).to(torch.uint8)


_UNCHANGED = Distort(None, None, contrast_first=False, saturation=None, hue=None, channels=None)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    """Return one value a picture, (B, 1, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32).to(like.device)[:, None, None, None]


def _places(parts: Sequence[tuple[int, int]], side: int, device: torch.device) -> Tensor:
    """Return where bilinear resizing of a part to ``side`` pixels looks, (B, side), in pixels.

    Args:
        parts: First pixel and length of each picture's part.
        side: Pixels of the result.
        device: Where the places lie.
    """
    first, length = torch.tensor(parts, dtype=torch.float32).to(device)[:, :, None].unbind(1)
    inside = (torch.arange(side, device=device) + 0.5) * (length / side) - 0.5
    return first + torch.minimum(inside.clamp(min=0), length - 1)


def _blended(
    x: Tensor, other: Callable[[Tensor], Tensor], ratios: Sequence[float | None]
) -> Tensor:
    """Return ``ratio`` of each picture and the rest of another; None leaves it."""
    if all(ratio is None for ratio in ratios):
        return x
    known = [1.0 if ratio is None else ratio for ratio in ratios]
    rest = _column([1 - ratio for ratio in known], x)
    return (x * _column(known, x) + other(x) * rest).clamp(0, 255).floor()


def _grey(x: Tensor) -> Tensor:
    red, green, blue = x.unbind(1)
    return (red * _GREY[0] + green * _GREY[1] + blue * _GREY[2]).floor()[:, None]


def _mean_grey(x: Tensor) -> Tensor:
    return _grey(x).mean((1, 2, 3), keepdim=True)


def _turned(x: Tensor, turns: Sequence[float | None]) -> Tensor:
    """Move hues by shares of a turn, by way of hue, chroma and value; None leaves a picture."""
    if all(turn is None for turn in turns):
        return x
    red, green, blue = (x / 255).unbind(1)
    least, value = torch.aminmax(x / 255, dim=1)
    chroma = value - least
    safe = torch.where(chroma == 0, 1.0, chroma)
    sixths = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sixths = sixths + 6 * _column([turn or 0.0 for turn in turns], x)[:, 0]
    planes = []
    for offset in (5, 3, 1):
        place = (offset + sixths) % 6
        planes.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    turned = (torch.stack(planes, 1) * 255.999).floor()  # as torchvision returns to uint8
    return torch.where(_column([float(turn is not None) for turn in turns], x) > 0, turned, x)
