from edgedetr.distill.methods import none, supported_pairs
from edgedetr.distill.types import Batch
from edgedetr.runtime.plugins import names


def test_it_adds_no_loss_and_needs_no_teacher(make_model, images, targets):
    student = make_model()
    method = none.build(none.Settings(), student, None)
    assert method(Batch(images, targets, student.encode(images), None)) == {}
    assert method.terms == ()
    assert not list(method.parameters())
    assert none.NEEDS_TEACHER is False


def test_it_takes_every_pair():
    families = names("edgedetr.distill.detectors")
    assert supported_pairs("none") == [(s, t) for s in families for t in families]
