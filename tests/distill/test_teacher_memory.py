import pytest
import torch

from edgedetr.distill.detectors import answers_queries
from edgedetr.distill.shared_queries import target_queries
from edgedetr.distill.teacher_memory import TeacherMemory
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
def test_remembered_images_answer_as_fresh_ones_and_are_encoded_once(
    family, counted, images, targets
):
    model, sizes = counted(family)
    memory = TeacherMemory(model)
    memory(images[:1])
    remembered, fresh = memory(images.flip(0)), TeacherMemory(model, 0)(images.flip(0))
    assert sizes == [1, 1, 2]
    one, two = (m.tensors()[0] for m in (remembered, fresh))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    if answers_queries(model.module):
        assert remembered.spatial_shapes == fresh.spatial_shapes
        queries = target_queries(targets).queries(model)
        with torch.no_grad():
            one, two = (model.decode(m, queries).logits for m in (remembered, fresh))
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert memory(images).tensors()[0].grad_fn is None
    assert sizes == [1, 1, 2]


def test_what_does_not_fit_is_computed_each_time(counted, images):
    model, sizes = counted("d_fine")
    one_image = sum(p[0].nbytes for m in [TeacherMemory(model, 0)(images)] for p in m.tensors())
    sizes.clear()
    memory = TeacherMemory(model, limit_bytes=one_image)
    for _ in range(3):
        memory(images)
    assert sizes == [1, 1, 1, 1]
