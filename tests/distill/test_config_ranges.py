import pytest

from edgedetr.distill.config_ranges import check_range, check_sides


def test_numbers_outside_their_range_are_named():
    check_range("epochs", 1, 1, 9)
    with pytest.raises(ValueError, match="epochs must be at least 1 and at most 9, got 10"):
        check_range("epochs", 10, 1, 9)


@pytest.mark.parametrize("hw", [(0, 32), (33, 64), (32, 8224)])
def test_sides_are_multiples_of_32(hw):
    check_sides("input_hw", (32, 8192))
    with pytest.raises(ValueError, match="input_hw must be multiples of 32, at most 8192, got"):
        check_sides("input_hw", hw)
