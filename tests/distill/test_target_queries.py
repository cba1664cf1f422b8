import torch

from edgedetr.distill.target_queries import Noise, target_queries


def test_slots_hold_the_objects_and_padding_is_not_valid(targets):
    queries = target_queries(targets)
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
    changed = (queries.labels != clean.labels)[clean.valid].float().mean()
    assert 0.17 < changed < 0.23  # two of three draws give another class
    assert queries.labels.max() == 2
