import cv2
import numpy as np
import pytest

from edgedetr.runtime.cuda.resize_tables import bilinear_table


def test_half_the_size_lies_between_two_pixels_each():
    # the centre of target pixel 0 is at 2 * 0.5 - 0.5 = 0.5: half of pixel 0, half of pixel 1
    assert bilinear_table(4, 2).tolist() == [[0, 128], [2, 128]]


def test_beyond_the_outer_centres_the_outer_pixel_counts_alone():
    # centres of the four are at -0.25, 0.25, 0.75 and 1.25
    assert bilinear_table(2, 4).tolist() == [[0, 0], [0, 64], [0, 192], [1, 0]]


@pytest.mark.parametrize(("source", "target"), [(7, 5), (5, 7), (1242, 320), (375, 96), (3, 3)])
def test_the_tables_resize_as_opencv_does(source, target):
    row = np.random.default_rng(0).integers(0, 256, (1, source), np.uint8)
    first, weight = bilinear_table(source, target).T
    following = np.minimum(first + 1, source - 1)
    wide = row[0].astype(np.int64)
    found = (wide[first] * (256 - weight) + wide[following] * weight + 128) >> 8
    wanted = cv2.resize(row, (target, 1), interpolation=cv2.INTER_LINEAR_EXACT)
    assert found.tolist() == wanted[0].tolist()
