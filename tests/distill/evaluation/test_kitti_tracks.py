"""What counts in a frame of KITTI's tracking benchmark."""

import numpy as np

from edgedetr.distill.evaluation.kitti_tracks import counted_frames
from edgedetr.distill.labels.kitti_tracks import TrackTable

BOX = (10.0, 10.0, 60.0, 60.0)


def table(*rows):
    """Rows of frame, track, type, box, truncation, occlusion."""
    columns = list(zip(*rows, strict=True)) or [()] * 6
    numbers = [np.array(columns[i], np.int64) for i in (0, 1, 4, 5)]
    frames, tracks, truncated, occluded = numbers
    boxes = np.array(columns[3], np.float64).reshape(-1, 4)
    return TrackTable(frames, tracks, np.array(columns[2], str), truncated, occluded, boxes)


def counted(labels, found, name="Car"):
    """Objects and boxes that count, over all frames."""
    frames = counted_frames(table(*labels), table(*found), name)
    return sum(len(f.objects) for f in frames), sum(len(f.tracks) for f in frames)


def test_an_object_counts_with_its_box():
    assert counted([(0, 1, "Car", BOX, 0, 2)], [(0, 5, "car", BOX, -1, -1)]) == (1, 1)
    assert counted([(0, 1, "Car", BOX, 0, 2)], [(1, 5, "Car", BOX, -1, -1)]) == (1, 1)
    assert counted([(0, 1, "Car", BOX, 0, 0)], [(0, 5, "Pedestrian", BOX, -1, -1)]) == (1, 0)


def test_a_box_on_what_does_not_count_is_neutral():
    found = [(0, 5, "Car", BOX, -1, -1)]
    assert counted([(0, 1, "Van", BOX, 0, 0)], found) == (0, 0)
    assert counted([(0, 1, "Car", BOX, 1, 0)], found) == (0, 0)
    assert counted([(0, 1, "Car", BOX, 0, 3)], found) == (0, 0)
    assert counted([(0, 1, "Truck", BOX, 0, 0)], found) == (0, 1)
    sitting = [(0, 1, "Person", BOX, 0, 0)], [(0, 5, "Pedestrian", BOX, -1, -1)]
    assert counted(*sitting, "Pedestrian") == (0, 0)


def test_small_boxes_and_areas_are_neutral_only_where_nothing_is_hit():
    low = (10.0, 10.0, 60.0, 35.0)
    assert counted([(0, 1, "Truck", BOX, 0, 0)], [(0, 5, "Car", low, -1, -1)]) == (0, 0)
    assert counted([(0, 1, "Car", low, 0, 0)], [(0, 5, "Car", low, -1, -1)]) == (1, 1)
    area = (0, -1, "DontCare", (0.0, 0.0, 36.0, 99.0), -1, -1)
    assert counted([area], [(0, 5, "Car", BOX, -1, -1)]) == (0, 0)
    half = (0, -1, "DontCare", (0.0, 0.0, 35.0, 99.0), -1, -1)
    assert counted([half], [(0, 5, "Car", BOX, -1, -1)]) == (0, 1)
