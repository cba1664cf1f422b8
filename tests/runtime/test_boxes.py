"""Boxes by hand: what the doctests leave out."""

import numpy as np

from edgedetr.runtime.boxes import area, clip, intersection, iou


def test_inverted_and_empty_boxes_have_no_area():
    boxes = np.array([[0.0, 0, 2, 3], [2, 3, 0, 0], [1, 1, 1, 5]])
    assert area(boxes).tolist() == [6, 0, 0]
    assert intersection(boxes, boxes[:1]).tolist() == [[6], [0], [0]]
    assert iou(boxes[2:], boxes[2:]).tolist() == [[0]]


def test_boxes_are_clipped_to_the_image():
    boxes = np.array([[-5.0, -5, 50, 50], [70, 3, 90, 9]])
    assert clip(boxes, (40, 80)).tolist() == [[0, 0, 50, 40], [70, 3, 80, 9]]
