"""Training frames are augmented part by part, and all parts together are all frames."""

import pytest
import torch

from edgedetr.bench.study.training import OutOfTimeError
from edgedetr.bench.study.workshop import PARTS, Workshop


def augmented(study):
    """Return what each part of the working folder holds: pixels and targets."""
    for part in range(PARTS):
        Workshop(study).augment("small", part)
    paths = [study.work / f"small.{part}.pt" for part in range(PARTS)]
    return [torch.load(path, weights_only=False) for path in paths]


def test_the_parts_hold_every_training_frame_once_in_each_variant(make_study, tmp_path):
    made = augmented(make_study())
    assert {tuple(pixels.shape[i] for i in (0, 2, 3, 4)) for pixels, _ in made} == {(2, 3, 64, 96)}
    assert sum(pixels.shape[1] for pixels, _ in made) == 6
    assert [len(row) for _, rows in made for row in rows] == [
        pixels.shape[1] for pixels, _ in made for _ in range(2)
    ]
    first, second = torch.cat([pixels for pixels, _ in made], 1)
    assert (first != second).flatten(1).any(1).all()
    (tmp_path / "again").mkdir()
    again = augmented(make_study(work=tmp_path / "again"))
    for (pixels, _), (same, _) in zip(made, again, strict=True):
        assert torch.equal(pixels, same)


def test_no_part_is_written_when_the_time_is_over(make_study, tmp_path):
    with pytest.raises(OutOfTimeError):
        Workshop(make_study(until=0.0)).augment("small", PARTS - 1)
    assert not list(tmp_path.glob("*.pt"))
