from dataclasses import replace

import pytest
import torch

from edgedetr.distill.detectors import decodes_queries, detector
from edgedetr.distill.losses.distillation_points import (
    Noise,
    outside_ignored,
    random_queries,
    shared_outputs,
    target_queries,
    teacher_queries,
)
from edgedetr.distill.networks.layer_losses import overlaps
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Batch, Memory, Queries
from edgedetr.runtime.plugins import names

FAMILIES = [f for f in names("edgedetr.distill.detectors") if decodes_queries(detector(f))]


def memory_of(batch, own=3):
    tokens = torch.zeros(batch, 8, 5)
    queries = Queries(
        torch.rand(batch, own, 5), torch.rand(batch, own, 4), torch.ones(batch, own).bool()
    )
    return Memory(tokens, ((2, 4),), torch.ones(batch, 8, dtype=torch.bool), queries, {})


def batch_of(student, teacher, images, targets):
    return Batch(images, targets, student.encode(images), TeacherMemory(teacher)(images))


def test_slots_hold_the_objects_and_padding_is_not_valid(targets):
    queries = target_queries(targets)
    assert queries.labels is not None
    assert queries.labels.tolist() == [[0, 1], [0, 0]]
    assert queries.valid.tolist() == [[True, True], [True, False]]
    torch.testing.assert_close(queries.boxes[0], targets[0].boxes)
    torch.testing.assert_close(queries.boxes[1, :1], targets[1].boxes)


def test_groups_repeat_the_objects(targets):
    queries = target_queries(targets, groups=3)
    assert queries.groups == 3
    assert queries.valid.tolist() == [[True] * 6, [True, False] * 3]
    torch.testing.assert_close(queries.boxes[0, 2:4], targets[0].boxes)


def test_a_batch_without_objects_has_one_empty_slot(make_targets):
    queries = target_queries([make_targets(), make_targets()])
    assert queries.valid.shape == (2, 1)
    assert not queries.valid.any()


def test_box_noise_stays_within_its_share(targets):
    torch.manual_seed(0)
    clean = target_queries(targets, groups=200)
    noisy = target_queries(targets, groups=200, noise=Noise(3, box=0.4))
    size = clean.boxes[..., 2:]
    shift = (noisy.boxes[..., :2] - clean.boxes[..., :2]).abs()[clean.valid]
    growth = (noisy.boxes[..., 2:] / size - 1).abs()[clean.valid]
    assert 0.15 < (shift / size[clean.valid]).max() <= 0.2 + 1e-5
    assert 0.3 < growth.max() <= 0.4 + 1e-5


def test_label_noise_draws_other_classes_at_its_rate(targets):
    torch.manual_seed(0)
    queries = target_queries(targets, groups=2000, noise=Noise(3, label=0.3))
    clean = target_queries(targets, groups=2000)
    assert queries.labels is not None
    assert clean.labels is not None
    changed = (queries.labels != clean.labels)[clean.valid].float().mean()
    assert 0.17 < changed < 0.23  # two of three draws give another class
    assert queries.labels.max() == 2


def test_random_queries_cover_the_image_and_all_sizes():
    torch.manual_seed(0)
    queries = random_queries(memory_of(2), [], 5000, "uniform")
    boxes = queries.boxes.flatten(0, 1)
    assert queries.labels is None
    assert queries.valid.all()
    for axis in (0, 1):  # even over the image: a tenth of the centres in each tenth of it
        counts = torch.histc(boxes[:, axis], 10, 0, 1)
        assert counts.sum() == 10_000
        assert 850 < counts.min() <= counts.max() < 1150
    for axis in (2, 3):  # sizes even on a logarithmic scale: the middle of 0.02..0.8 is 0.126
        assert 0.02 <= boxes[:, axis].min() < 0.021
        assert 0.78 < boxes[:, axis].max() <= 0.8
        assert 0.12 < boxes[:, axis].median() < 0.134


def test_random_queries_change_and_a_seed_repeats_them():
    def draw(seed):
        torch.manual_seed(seed)
        return [random_queries(memory_of(1), [], 4, "uniform").boxes for _ in range(2)]

    first, second = draw(0)
    assert not torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(draw(0), (first, second), strict=True))
    assert not torch.equal(draw(1)[0], first)


SMALL = (0.05, 0.1)
"""Width and height of the objects below: random boxes of all sizes hardly ever meet one."""


@pytest.fixture
def small(make_targets):
    """The truth of 20 images: three small objects in each."""
    centres = torch.rand(20, 3, 2, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    return [make_targets(*((x, y, *SMALL) for x, y in image)) for image in centres.tolist()]


def met(queries, targets):
    """Tell which queries overlap an object by an IoU above 0.4, (B, Q)."""
    objects = torch.stack([t.boxes for t in targets])
    return (overlaps(queries.boxes[:, :, None], objects[:, None])[0] > 0.4).any(-1)


def test_mixed_random_queries_meet_objects_and_uniform_ones_do_not(small):
    """Half of the mixed ones lie near boxes, half of those near the truth's: so do a quarter."""
    torch.manual_seed(0)
    memory = memory_of(20)
    mixed, uniform = (random_queries(memory, small, 100, kind) for kind in ("mixed", "uniform"))
    share = met(mixed, small).float().mean()
    assert 0.18 < share < 0.35
    assert met(uniform, small).float().mean() < 0.02
    assert met(random_queries(memory, small, 30), small).any(1).all()  # in every image


def test_queries_near_the_teachers_boxes_follow_them(small):
    """Of an image without truth all near ones lie there."""
    torch.manual_seed(0)
    memory = memory_of(20)
    empty = [replace(t, labels=t.labels[:0], boxes=t.boxes[:0]) for t in small]
    near = random_queries(memory, empty, 40).boxes[:, :20]
    iou = overlaps(near[:, :, None], memory.own.boxes[:, None])[0].amax(-1)
    assert iou.mean() > 0.5


def test_the_other_mixed_queries_are_as_large_as_objects(make_targets):
    """Two small objects to one large: a third of the boxes are large, in every image."""
    torch.manual_seed(0)
    small, large = (0.05, 0.1), (0.4, 0.5)
    targets = [
        make_targets((0.5, 0.5, *small), (0.2, 0.5, *small)),
        make_targets((0.5, 0.5, *large)),
    ]
    boxes = random_queries(memory_of(2), targets, 60).boxes[:, 30:]
    assert (boxes[..., 2] > 0.2).sum(1).tolist() == [10, 10]
    for index, sides in enumerate(zip(small, large, strict=True)):
        found = boxes[..., 2 + index]
        away = torch.stack([(found / side).log().abs() for side in sides]).amin(0)
        assert 0.1 < away.max() <= 0.2 + 1e-5
    assert 0 < boxes[..., 0].min() < 0.1
    assert 0.9 < boxes[..., 0].max() < 1


def test_the_papers_random_boxes_crowd_in_the_middle():
    torch.manual_seed(0)
    boxes = random_queries(memory_of(1), [], 10_000, "gaussian").boxes
    logits = torch.logit(boxes)
    assert logits.mean((0, 1)).abs().max() < 0.05
    assert (logits.std((0, 1)) - 1).abs().max() < 0.05


def test_the_teachers_queries_are_its_own():
    memory = memory_of(2)
    queries = teacher_queries(memory)
    assert torch.equal(queries.boxes, memory.own.boxes)
    assert torch.equal(queries.content, memory.own.content)  # type: ignore[arg-type]
    assert queries.labels is None


def test_some_of_the_teachers_queries_are_drawn_and_padding_comes_last():
    memory = memory_of(2, own=10)
    memory.own.valid[1, 4:] = 0
    torch.manual_seed(0)
    one, two = (teacher_queries(memory, 6) for _ in range(2))
    assert not torch.equal(one.boxes[0], two.boxes[0])
    assert one.valid.sum(1).tolist() == [6, 4]
    assert one.content is not None
    found = [
        [(boxes == box).all(-1).nonzero().item() for box in drawn]
        for boxes, drawn in zip(memory.own.boxes, one.boxes, strict=True)
    ]
    for row in (0, 1):
        assert len(set(found[row])) == 6
        assert torch.equal(one.content[row], memory.own.content[row, found[row]])
        assert torch.equal(one.valid[row], memory.own.valid[row, found[row]])
    assert set(found[1][:4]) == {0, 1, 2, 3}
    assert torch.equal(teacher_queries(memory, 10).boxes, memory.own.boxes)


def test_a_box_lies_in_an_ignored_area_from_half_of_itself_on(make_targets):
    area = make_targets(ignored=[(0.25, 0.5, 0.5, 1.0)])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.52, 0.5, 0.2, 0.2], [0.2, 0.5, 0.1, 0.1]]])
    found = outside_ignored(boxes.repeat(2, 1, 1), [area, make_targets()])
    assert found.tolist() == [[False, True, False], [True, True, True]]


@pytest.mark.parametrize("family", FAMILIES)
def test_sets_that_are_decoded_together_do_not_see_one_another(family, make_model, images, targets):
    """Each set answers as if it had been asked alone, whether or not it shares a decoder call."""
    student, teacher = make_model(family), make_model(family, "edge-small", seed=1)
    batch = batch_of(student, teacher, images, targets)
    sets = [
        target_queries(targets, groups=2, noise=Noise(3, box=0.4)),
        teacher_queries(batch.teacher_memory),
        random_queries(batch.teacher_memory, targets, batch.teacher_memory.own.boxes.shape[1]),
        random_queries(batch.teacher_memory, targets, 7, "uniform"),
    ]
    with torch.no_grad():
        together = shared_outputs(sets, student, teacher, batch)
        alone = [shared_outputs([s], student, teacher, batch)[0] for s in sets]
    for queries, one, two in zip(sets, together, alone, strict=True):
        assert torch.equal(one.counts, two.counts)
        for mine, theirs in ((one.student, two.student), (one.teacher, two.teacher)):
            assert mine.logits.shape[2] == queries.boxes.shape[1]
            valid = queries.valid
            for a, b in ((mine.logits, theirs.logits), (mine.boxes, theirs.boxes)):
                torch.testing.assert_close(a[:, valid], b[:, valid], atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(mine.hidden[valid], theirs.hidden[valid], atol=1e-4, rtol=0)


@pytest.mark.usefixtures("unfaded")
@pytest.mark.parametrize("family", FAMILIES)
def test_models_of_one_width_get_the_teachers_content(family, make_model, images, targets):
    """The teacher then answers its own queries as it answers for itself."""
    student, teacher = make_model(family), make_model(family, seed=1)
    images = images.contiguous(memory_format=torch.channels_last)  # as the teacher is asked
    batch = batch_of(student, teacher, images, targets)
    asked = teacher_queries(batch.teacher_memory)
    with torch.no_grad():
        (answer,) = shared_outputs([asked], student, teacher, batch)
        logits, _ = teacher.predict(images)
        learnt = student.decode(batch.memory, batch.teacher_memory.own)
    torch.testing.assert_close(answer.teacher.logits[-1], logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(answer.student.logits, learnt.logits, atol=1e-5, rtol=1e-4)


def test_models_of_other_widths_get_each_its_own_content(make_model, images, targets):
    """The teacher answers its own queries as for itself, the student by its own cells there."""
    student, teacher = make_model(), make_model(preset="edge-small", seed=1)
    batch = batch_of(student, teacher, images, targets)
    own, place = teacher_queries(batch.teacher_memory), random_queries(batch.memory, targets, 6)
    with torch.no_grad():
        for asked, theirs in (
            (own, batch.teacher_memory.own.content),
            (place, teacher.place_content(batch.teacher_memory, place.boxes)),
        ):
            (answer,) = shared_outputs([asked], student, teacher, batch)
            mine = student.place_content(batch.memory, asked.boxes)
            for found, model, memory, content in (
                (answer.student, student, batch.memory, mine),
                (answer.teacher, teacher, batch.teacher_memory, theirs),
            ):
                wanted = model.decode(memory, Queries(content, asked.boxes, asked.valid))
                torch.testing.assert_close(found.logits, wanted.logits)


def test_only_queries_of_no_class_stop_counting_in_ignored_areas(make_model, make_targets, images):
    student, teacher = make_model(), make_model(seed=1)
    everywhere = make_targets((0.3, 0.4, 0.2, 0.3), ignored=[(0.5, 0.5, 4.0, 4.0)])
    batch = batch_of(student, teacher, images, [everywhere, make_targets((0.3, 0.4, 0.2, 0.3))])
    memory = batch.teacher_memory
    sets = [
        target_queries(batch.targets),
        teacher_queries(memory),
        random_queries(memory, batch.targets, 9),
    ]
    truth, own, random = shared_outputs(sets, student, teacher, batch)
    assert truth.counts.tolist() == [[True], [True]]
    for answer in (own, random):
        assert not answer.counts[0].any()
        assert answer.counts[1].all()
