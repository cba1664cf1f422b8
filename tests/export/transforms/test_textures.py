import numpy as np
import pytest

from edgedetr.export.transforms.textures import textured_frames


@pytest.mark.parametrize("hw", [(64, 96), (31, 500)])
def test_frames_are_the_same_each_time_and_differ_among_themselves(hw):
    frames = textured_frames(hw, 3)
    assert {f.shape for f in frames} == {(*hw, 3)}
    assert all(f.dtype == np.uint8 for f in frames)
    for frame, again in zip(frames, textured_frames(hw, 3), strict=True):
        np.testing.assert_array_equal(frame, again)
    assert not np.array_equal(frames[0], frames[1])


def test_they_have_blobs_under_noise():
    frame = textured_frames((128, 256), 1)[0].astype(np.float64)
    blobs = frame.reshape(16, 8, 32, 8, 3).mean(axis=(1, 3))
    assert blobs.std() > 30
    assert np.abs(np.diff(frame, axis=1)).mean() > 4
