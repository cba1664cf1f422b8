from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgedetr.runtime.preprocess import Placement, Preprocessor, placement
from edgedetr.runtime.spec import ModelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _run(image: NDArray[np.uint8], spec: ModelSpec) -> tuple[NDArray[np.float32], Placement]:
    out = np.full((3, *spec.input_hw), np.nan, np.float32)
    return out, Preprocessor(spec)(image, out)


def test_same_size_is_the_plain_numpy_formula() -> None:
    spec = ModelSpec((6, 8), ("car",), mean=MEAN, std=STD)
    image = _image(6, 8)
    out, place = _run(image, spec)
    wanted = (image / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_array_equal(out, wanted.transpose(2, 0, 1).astype(np.float32))
    assert (place.scale_x, place.scale_y) == (1, 1)


def test_letterbox_of_the_same_scale_pads_below_with_the_grey() -> None:
    spec = ModelSpec((4, 3), ("car",), std=(1.0, 1.0, 0.5), pad_value=51)
    image = _image(2, 3)
    out, place = _run(image, spec)
    np.testing.assert_array_equal(out[0, :2], (image[..., 0] / 255).astype(np.float32))
    for channel, grey in enumerate((0.2, 0.2, 0.4)):
        assert (out[channel, 2:] == np.float32(grey)).all()
    assert place.placed_hw == (2, 3)


def test_letterbox_pads_at_the_right_too() -> None:
    spec = ModelSpec((2, 9), ("car",), pad_value=255)
    out, place = _run(np.zeros((2, 3, 3), np.uint8), spec)
    assert place.placed_hw == (2, 3)
    assert out[:, :, :3].max() == 0
    assert out[:, :, 3:].min() == 1


@pytest.mark.parametrize(
    ("source_hw", "placed_hw"),
    [
        ((375, 1242), (377, 1248)),
        ((370, 1224), (377, 1248)),
        ((374, 1238), (377, 1248)),
        ((376, 1241), (378, 1248)),
        ((768, 2496), (384, 1248)),
        ((500, 500), (384, 384)),
    ],
)
def test_letterbox_of_the_sizes_in_kitti(
    source_hw: tuple[int, int], placed_hw: tuple[int, int]
) -> None:
    assert placement(source_hw, ModelSpec((384, 1248), ("car",))).placed_hw == placed_hw


@pytest.mark.parametrize(
    ("source_hw", "steps"),
    [
        ((96, 320), []),
        ((192, 640), [((192, 640), (96, 320))]),
        ((193, 640), [((192, 640), (96, 320))]),
        ((375, 1242), [((374, 1242), (187, 621)), ((187, 621), (96, 320))]),
        ((375, 640), [((374, 640), (187, 320)), ((187, 320), (96, 320))]),
        ((90, 1281), [((90, 1280), (96, 640)), ((96, 640), (96, 320))]),
        ((771, 320), [((770, 320), (385, 320)), ((384, 320), (192, 320)), ((192, 320), (96, 320))]),
    ],
)
def test_a_side_is_halved_until_at_most_twice_is_left(
    source_hw: tuple[int, int], steps: list[tuple[tuple[int, int], tuple[int, int]]]
) -> None:
    spec = ModelSpec((96, 320), ("car",), resize="stretch")
    assert placement(source_hw, spec).resize_steps() == steps


def test_halving_averages_four_pixels_and_rounds_half_up() -> None:
    image = _image(40, 60)
    out, _ = _run(image, ModelSpec((10, 15), ("car",)))
    for _ in range(2):
        fours = np.stack([image[y::2, x::2] for y in (0, 1) for x in (0, 1)])
        image = ((fours.sum(axis=0) + 2) // 4).astype(np.uint8)
    np.testing.assert_array_equal(out, (image / 255).transpose(2, 0, 1).astype(np.float32))


def test_what_halving_leaves_out_at_the_far_edge_moves_no_box() -> None:
    place = placement((103, 203), ModelSpec((24, 49), ("car",), resize="stretch"))
    there = place.to_input(np.array([[0.0, 0.0, 100.0, 50.0], [0.0, 0.0, 203.0, 103.0]]))
    np.testing.assert_allclose(there[0], [0.25, 0.25, 0.5, 0.5], atol=1e-7)
    np.testing.assert_allclose(place.to_source(there)[1], [0, 0, 203, 103], atol=1e-4)


def test_stretch_fills_the_input() -> None:
    out, place = _run(_image(5, 7), ModelSpec((8, 6), ("car",), resize="stretch"))
    assert place.placed_hw == (8, 6)
    assert (place.scale_x, place.scale_y) == (6 / 7, 8 / 5)
    assert np.isfinite(out).all()


def test_a_doubled_image_is_bilinear_about_pixel_centres() -> None:
    row = np.array([0, 100], np.uint8)
    image = np.broadcast_to(row[None, :, None], (2, 2, 3)).copy()
    out, _ = _run(image, ModelSpec((4, 4), ("car",)))
    np.testing.assert_allclose(out[0, 0] * 255, [0, 25, 75, 100], atol=1e-4)


def test_shrinking_far_sees_every_source_pixel() -> None:
    image = np.zeros((4, 16, 3), np.uint8)
    image[:, ::4] = 200  # at once, bilinear would read only columns 1, 2, 5, 6, ...
    out, _ = _run(image, ModelSpec((1, 4), ("car",)))
    np.testing.assert_allclose(out * 255, 50, atol=1e-4)


def test_the_channel_order_is_kept() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0] = 255
    out, _ = _run(image, ModelSpec((2, 2), ("car",)))
    assert out[:, 0, 0].tolist() == [1, 0, 0]


def test_a_buffer_used_before_gives_the_same_result() -> None:
    spec = ModelSpec((32, 48), ("car",))
    feed, out = Preprocessor(spec), np.empty((3, 32, 48), np.float32)
    for height, width in ((40, 40), (20, 90), (40, 40), (32, 48)):
        image = _image(height, width, seed=height)
        feed(image, out)
        np.testing.assert_array_equal(out, _run(image, spec)[0])


def test_without_memory_for_another_size_the_old_size_still_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = ModelSpec((32, 48), ("car",))
    feed, out, image = Preprocessor(spec), np.empty((3, 32, 48), np.float32), _image(50, 60)
    feed(image, out)
    wanted, empty = out.copy(), np.empty

    def full(shape: tuple[int, ...], dtype: type) -> NDArray[np.uint8]:
        if len(shape) == 2:
            raise MemoryError
        return empty(shape, dtype)

    with monkeypatch.context() as patched:
        patched.setattr(np, "empty", full)
        with pytest.raises(MemoryError):
            feed(_image(150, 250), out)
    feed(image, out)
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize(
    "out", [np.empty((3, 4, 5), np.float32), np.empty((3, 4, 4)), np.empty((4, 4, 3), np.float32)]
)
def test_a_wrong_buffer_is_refused(out: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match=r"out must be float32 \(3, 4, 4\), got float"):
        Preprocessor(ModelSpec((4, 4), ("car",)))(_image(4, 4), out)


def test_nothing_of_the_size_of_an_image_is_allocated_after_the_first_frame() -> None:
    spec = ModelSpec((384, 1248), ("car",), mean=MEAN, std=STD)
    feed, out, image = Preprocessor(spec), np.empty((3, 384, 1248), np.float32), _image(375, 1242)
    feed(image, out)
    tracemalloc.start()
    try:
        feed(image, out)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20_000


sides = st.integers(1, 60)
fractions = st.floats(0, 1, width=32)


@example(source=(1, 17), wanted=(1, 8), resize="letterbox", corners=(0.0, 1.0, 0.0, 0.0))
@given(
    source=st.tuples(sides, sides),
    wanted=st.tuples(sides, sides),
    resize=st.sampled_from(["letterbox", "stretch"]),
    corners=st.tuples(fractions, fractions, fractions, fractions),
)
def test_boxes_survive_the_way_there_and_back(
    source: tuple[int, int],
    wanted: tuple[int, int],
    resize: Literal["letterbox", "stretch"],
    corners: tuple[float, ...],
) -> None:
    spec = ModelSpec(wanted, ("car",), resize=resize)
    image = np.zeros((*source, 3), np.uint8)
    _, place = _run(image, spec)
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    height, width = source
    boxes = np.array([[x0 * width, y0 * height, x1 * width, y1 * height]])
    there = place.to_input(boxes)
    assert there.min() >= 0
    halved = any(
        2 * made <= read
        for step in place.resize_steps()
        for read, made in zip(step.read_hw, step.made_hw, strict=True)
    )
    left_out_px = 1.0 if halved else 1e-4
    far = there[0, :2] + there[0, 2:] / 2
    assert (far * wanted[::-1] <= np.array(place.placed_hw[::-1]) + left_out_px).all()
    np.testing.assert_allclose(place.to_source(there), boxes, atol=1e-3)


def test_a_box_by_hand() -> None:
    place = placement((50, 100), ModelSpec((100, 400), ("car",)))  # scale 2: fills (100, 200)
    there = place.to_input(np.array([[10.0, 5.0, 30.0, 45.0]]))
    np.testing.assert_allclose(there, [[0.1, 0.5, 0.1, 0.8]], atol=1e-7)
    assert there.dtype == np.float32


def test_boxes_outside_are_clipped_to_the_source_image() -> None:
    place = placement((50, 100), ModelSpec((100, 400), ("car",)))
    boxes = place.to_source(np.array([[0.5, 0.5, 1.0, 2.0]]))
    assert boxes.tolist() == [[0, 0, 100, 50]]
