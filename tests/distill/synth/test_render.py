from __future__ import annotations

import numpy as np
import pytest

from edgedetr.distill.synth.render import render
from edgedetr.distill.synth.scene import sample_scene


def test_objects_equal_the_id_buffer() -> None:
    checked = 0
    for frame in range(12):
        rng = np.random.default_rng([5, frame])
        rendered = render(sample_scene(rng), rng)
        height, width = rendered.ids.shape
        for seen in rendered.seen:
            x0, y0, x1, y1 = seen.silhouette.box()
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
            mask = seen.silhouette.mask
            for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
                assert edge.any()
            if seen.visible == 1:
                rows, columns = np.nonzero(rendered.ids == seen.number)
                extent = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                assert extent == seen.silhouette.box()
                checked += 1
            shown = np.count_nonzero(rendered.ids == seen.number)
            assert seen.visible == pytest.approx(shown / np.count_nonzero(mask))
    assert checked >= 20


def test_size_follows_distance() -> None:
    heights: dict[str, list[float]] = {}
    for frame in range(25):
        rng = np.random.default_rng([8, frame])
        scene = sample_scene(rng)
        for seen in render(scene, rng).seen:
            _, y0, _, y1 = seen.silhouette.box()
            if seen.actor.kind == "Pedestrian" and seen.silhouette.truncation() < 0.02:
                want = scene.camera.focal_px * seen.actor.size_m[0] / seen.actor.pose.z
                heights.setdefault("ratio", []).append((y1 - y0) / want)
    assert len(heights["ratio"]) > 8
    assert np.mean(heights["ratio"]) == pytest.approx(1, abs=0.08)
