from __future__ import annotations

import numpy as np
import pytest

from edgedetr.distill.synth.paint import Canvas, Part


def square(x0: float, y0: float, x1: float, y1: float) -> Part:
    return Part(np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float), (200.0, 10.0, 10.0))


def test_silhouette_box_and_truncation() -> None:
    canvas = Canvas(np.zeros((100, 200, 3), np.uint8))
    inside = canvas.paint([square(20, 30, 60, 80)], 1)
    assert inside.box() == pytest.approx((20, 30, 60, 80), abs=1)
    assert inside.truncation() < 0.05
    half = canvas.paint([square(-50, 20, 50, 90)], 2)
    assert half.box()[0] == 0
    assert half.truncation() == pytest.approx(0.5, abs=0.02)
    gone = canvas.paint([square(300, 20, 350, 90)], 3)
    assert not gone.mask.any()


def test_visible_share_counts_what_is_painted_over() -> None:
    canvas = Canvas(np.zeros((100, 200, 3), np.uint8))
    far = canvas.paint([square(20, 20, 120, 80)], 1)
    assert canvas.shown(far, 1)[0] == 1
    canvas.paint([square(20, 10, 45, 95)])
    assert canvas.shown(far, 1)[0] == pytest.approx(0.75, abs=0.02)
    canvas.paint([square(20, 10, 70, 95)], 2)
    share, box = canvas.shown(far, 1)
    assert share == pytest.approx(0.5, abs=0.02)
    assert box == pytest.approx((70, 20, 120, 80), abs=1)
    canvas.paint([square(0, 0, 150, 95)], 3)
    assert canvas.shown(far, 1)[0] == 0


def test_sprites_hide_what_lies_behind() -> None:
    canvas = Canvas(np.zeros((100, 200, 3), np.uint8))
    far = canvas.paint([square(20, 20, 120, 80)], 1)
    sprite = np.full((100, 70, 4), 255, np.uint8)
    canvas.blend(sprite, 0, 0)
    assert canvas.shown(far, 1)[0] == pytest.approx(0.5, abs=0.02)
    assert canvas.image[50, 30].tolist() == [255, 255, 255]
