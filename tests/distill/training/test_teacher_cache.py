from dataclasses import replace

import pytest
import torch

from edgedetr.distill.losses.distillation_points import target_queries
from edgedetr.distill.training.teacher_cache import TeacherMemory
from edgedetr.distill.types import Memory, TeacherView
from edgedetr.runtime.plugins import names


@pytest.fixture
def counted(make_model, monkeypatch):
    """Returns a model and the list of batch sizes it was asked to encode."""

    def make(family):
        model, sizes = make_model(family), []
        real = model.module.encode

        def encode(network, images):
            sizes.append(len(images))
            return real(network, images)

        monkeypatch.setattr(model.module, "encode", encode)
        return model, sizes

    return make


@pytest.mark.parametrize("family", names("edgedetr.distill.detectors"))
def test_learnt_images_answer_as_fresh_ones_and_are_encoded_once(family, counted, images, targets):
    model, sizes = counted(family)
    memory = TeacherMemory(model)
    memory.fill([images], len(images))
    learnt, fresh = memory(images.flip(0)), TeacherMemory(model)(images.flip(0))
    assert sizes == [2, 2]
    one, two = (m.tensors()[0] for m in (learnt, fresh))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    if isinstance(learnt, Memory) and isinstance(fresh, Memory):
        assert learnt.spatial_shapes == fresh.spatial_shapes
        queries = target_queries(targets).queries(model, learnt)
        with torch.no_grad():
            one, two = (model.decode(m, queries).logits for m in (learnt, fresh))
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert memory(images[:1]).tensors()[0].grad_fn is None
    assert sizes == [2, 2]


def test_a_learnt_image_has_the_same_bits_in_every_batch(counted, images):
    model, _ = counted("d_fine")
    memory = TeacherMemory(model)
    memory.fill([images], len(images))
    together, alone = memory(images), memory(images[1:])
    assert torch.equal(together.tensors()[0][1:], alone.tensors()[0])


def test_an_image_that_was_not_learnt_is_encoded_with_its_batch(counted, images):
    model, sizes = counted("d_fine")
    memory = TeacherMemory(model)
    memory.fill([images[:1]], 1)
    memory(images)
    assert sizes == [1, 2]


def test_what_does_not_fit_whole_is_encoded_each_time(counted, images):
    model, sizes = counted("d_fine")
    all_of_it = sum(part.nbytes for part in TeacherMemory(model)(images).tensors())
    for limit, wanted in [(all_of_it, [2]), (all_of_it - 1, [2, 2, 2])]:
        sizes.clear()
        memory = TeacherMemory(model)
        memory.fill([images], len(images), limit)
        for _ in range(2):
            memory(images)
        assert sizes == wanted


def test_a_teacher_of_another_mean_sees_the_same_pixels(make_model, images):
    """Normalised for the student they are normalised anew; with its own they stay to the bit."""
    teacher = make_model()
    other = replace(teacher.spec, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.25))
    mean, std = (torch.tensor(v)[:, None, None] for v in (other.mean, other.std))
    plain = TeacherMemory(teacher, teacher.spec)(images)
    found = TeacherMemory(teacher, other)((images - mean) / std)
    torch.testing.assert_close(found.tensors()[0], plain.tensors()[0], atol=1e-4, rtol=1e-4)


def test_a_teachers_own_view_is_encoded_and_its_boxes_are_the_students(make_model, images, targets):
    """The view is twice as wide, and shows the student's input in its left half."""
    teacher = make_model()
    pixels = (torch.rand(2, 3, 64, 192) * 255).to(torch.uint8)
    frame = torch.tensor([0.5, 1.0, 0.0, 0.0])
    seen = [replace(t, view=TeacherView(p, frame)) for t, p in zip(targets, pixels, strict=True)]
    memory = TeacherMemory(teacher)
    found = memory(images, seen)
    assert isinstance(found, Memory)
    plain_pixels = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
    wanted = teacher.encode(plain_pixels)
    torch.testing.assert_close(found.tokens, wanted.tokens)
    halved = found.own.boxes * torch.tensor([0.5, 1.0, 0.5, 1.0])
    torch.testing.assert_close(halved, wanted.own.boxes)
    logits, boxes = memory.predict(images, seen)
    plain, plain_boxes = teacher.predict(pixels.float() / 255)
    torch.testing.assert_close(logits, plain)
    torch.testing.assert_close(boxes * torch.tensor([0.5, 1.0, 0.5, 1.0]), plain_boxes)
    assert not found.tokens.requires_grad
