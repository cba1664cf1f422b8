"""Distances of the objects, out of KITTI's labels."""

import numpy as np
import pytest

from edgedetr.bench.report.distances import distances
from edgedetr.distill.data.kitti import open_dataset

LINE = "{} 0 0 -10 {} {} {} {} 1.5 1.6 3.9 {} 1.5 {} 0\n"


@pytest.fixture
def labels(kitti_root):
    folder = kitti_root / "training" / "label_2"
    for path in folder.iterdir():
        path.write_text("", encoding="utf-8")
    return sorted(folder.iterdir())


def test_each_object_has_the_distance_of_its_label(kitti_root, labels):
    text = LINE.format("Car", 16, 8, 56, 48, -1, 12.5)
    text += LINE.format("Van", 16, 8, 56, 48, 3, 33)
    text += LINE.format("Car", 60, 8, 200, 48, 1, 40)  # cut at the image's right edge
    labels[0].write_text(text, encoding="utf-8")
    unknown = LINE.format("Pedestrian", 80, 12, 96, 44, -1000, -1000)
    labels[2].write_text(unknown, encoding="utf-8")
    names = ("Car", "Pedestrian")
    truths = open_dataset(kitti_root, "val", names).truths
    found = distances(labels, truths, names)
    np.testing.assert_array_equal(found, [12.5, 40, np.nan])


def test_labels_without_distances_have_none(kitti_root, labels):
    labels[0].write_text(LINE.format("Car", 16, 8, 56, 48, -1000, -1000), encoding="utf-8")
    truths = open_dataset(kitti_root, "val", ("Car",)).truths
    assert distances(labels, truths, ("Car",)) is None
