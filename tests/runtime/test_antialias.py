import numpy as np
import pytest

from edgedetr.runtime.antialias import AntialiasedResize, triangle_table
from edgedetr.runtime.preprocess import Preprocessor, placement
from edgedetr.runtime.spec import ModelSpec


def test_a_pixel_of_half_the_size_is_made_of_four():
    """The triangle over source pixels at -1.5, -0.5, 0.5 and 1.5 from the centre: 1 3 3 1."""
    pixels, weights, unit = triangle_table(8, 4)
    assert pixels[1].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(weights[1] / (1 << unit), np.array([1, 3, 3, 1]) / 8, atol=1e-4)
    np.testing.assert_allclose(weights[0] / (1 << unit), np.array([3, 3, 1, 0]) / 7, atol=1e-4)


def test_a_larger_image_is_plain_bilinear():
    pixels, weights, unit = triangle_table(2, 4)
    shown = np.zeros((4, 2))
    for row, (places, parts) in enumerate(zip(pixels, weights, strict=True)):
        np.add.at(shown[row], places, parts / (1 << unit))
    wanted = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    np.testing.assert_allclose(shown, wanted, atol=1e-4)


SIZES = [(40, 60), (12, 31), (37, 100), (90, 25), (640, 640)]


@pytest.mark.parametrize("made_hw", SIZES)
def test_it_resizes_as_torchvision_does(made_hw):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    image = np.random.default_rng(0).integers(0, 256, (37, 1242, 3), np.uint8)
    ours = AntialiasedResize((37, 1242), made_hw)(image)
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())
    theirs = functional.resize(pixels, made_hw, antialias=True).numpy().transpose(1, 2, 0)
    np.testing.assert_array_equal(ours, theirs)


def test_a_mean_of_thousands_of_pixels_is_exact():
    """Its weights are so fine that single precision would not hold the sum."""
    image = np.random.default_rng(0).integers(0, 256, (2, 9000, 3), np.uint8)
    pixels, weights, unit = triangle_table(9000, 2)
    assert int(weights.sum(1).max()) * 255 >= 1 << 24
    wanted = (weights[0][:, None] * image[0, pixels[0]].astype(np.int64)).sum(0)
    ours = AntialiasedResize((2, 9000), (2, 2))(image)
    assert ours[0, 0].tolist() == ((wanted + (1 << (unit - 1))) >> unit).tolist()


def test_a_second_image_of_the_same_size():
    resize = AntialiasedResize((8, 12), (3, 5))
    black, white = np.zeros((8, 12, 3), np.uint8), np.full((8, 12, 3), 255, np.uint8)
    assert (resize(white) == 255).all()
    assert (resize(black) == 0).all()
    odd = np.zeros((8, 24, 3), np.uint8)[:, ::2]
    odd[:] = 255
    assert (resize(odd) == 255).all()


@pytest.mark.parametrize("made_hw", SIZES)
def test_it_resizes_nearly_as_pil_does(made_hw):
    image_module = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).integers(0, 256, (37, 61, 3), np.uint8)
    ours = AntialiasedResize((37, 61), made_hw)(image)
    theirs = np.asarray(image_module.fromarray(image).resize(made_hw[::-1], 2))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_an_input_is_antialiased_where_the_spec_says_so():
    image = np.zeros((33, 64, 3), np.uint8)
    image[:, ::4] = 255
    spec = ModelSpec((8, 16), ("car",), resize="stretch", antialias=True)
    fed = np.empty((3, 8, 16), np.float32)
    place = Preprocessor(spec)(image, fed)
    np.testing.assert_allclose(fed[:, :, 1:-1], 0.25, atol=0.01)
    assert place == placement((33, 64), spec)
    assert (place.scale_y, place.scale_x) == (8 / 33, 16 / 64)


def test_a_spec_without_it_is_written_as_before():
    assert "antialias" not in ModelSpec((8, 16), ("car",)).to_json()
    assert "antialias" in ModelSpec((8, 16), ("car",), antialias=True).to_json()
