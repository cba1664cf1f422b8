import torch

from edgedetr.distill.losses.region_sampling import region_samples


def on_object(count):
    """Boxes around the object (0.3, 0.3, 0.2, 0.2), xyxy."""
    return torch.tensor([[0.2, 0.2, 0.4, 0.4]]).repeat(count, 1)


def elsewhere(count):
    return torch.tensor([[0.6, 0.6, 0.9, 0.9]]).repeat(count, 1)


OBJECT = (0.3, 0.3, 0.2, 0.2)


def test_at_most_a_quarter_is_positive_and_the_rest_background(make_targets):
    boxes = [torch.cat([on_object(10), elsewhere(30)]), torch.cat([elsewhere(30), on_object(1)])]
    samples = region_samples(boxes, [make_targets(OBJECT)] * 2, most=16)
    assert [len(b) for b in samples.boxes] == [16, 16]
    assert samples.positive.reshape(2, 16).sum(1).tolist() == [4, 1]
    assert samples.images.tolist() == [0] * 16 + [1] * 16
    every = torch.cat(boxes)
    torch.testing.assert_close(every[samples.rows], torch.cat(samples.boxes))
    assert len(set(samples.rows.tolist())) == 32
    assert samples.positive.tolist() == (every[samples.rows][:, 0] < 0.5).tolist()


def test_an_iou_of_one_half_is_no_object(make_targets):
    object_, half = (0.5, 0.5, 0.5, 0.5), [0.25, 0.25, 0.5, 0.75]
    more = [0.25, 0.25, 0.53, 0.75]
    boxes = torch.tensor([half, more, *[[0.0, 0.0, 0.1, 0.1]] * 8])
    samples = region_samples([boxes], [make_targets(object_)], most=8)
    assert samples.rows[samples.positive].tolist() == [1]


def test_ignored_areas_are_no_background_but_objects_stay(make_targets):
    target = make_targets(OBJECT, ignored=[(0.5, 0.5, 1.0, 1.0)])
    boxes = torch.cat([on_object(2), elsewhere(5)])
    samples = region_samples([boxes], [target], most=8)
    assert samples.rows.sort().values.tolist() == [0, 1]
    nothing = make_targets(ignored=[(0.5, 0.5, 1.0, 1.0)])
    assert len(region_samples([boxes], [nothing], most=8).rows) == 0


def test_regions_without_area_are_left_out(make_targets):
    boxes = torch.tensor([[0.5, 0.2, 0.5, 0.6], [1.0, 1.0, 1.0, 1.0], [0.1, 0.1, 0.2, 0.2]])
    assert region_samples([boxes], [make_targets(OBJECT)], most=8).rows.tolist() == [2]


def test_images_without_objects_give_background(make_targets):
    samples = region_samples([elsewhere(20)], [make_targets()], most=8)
    assert len(samples.rows) == 8
    assert not samples.positive.any()


def test_only_boxes_of_one_image_are_alike(make_targets):
    boxes = [torch.cat([on_object(2), elsewhere(1)]), on_object(1)]
    samples = region_samples(boxes, [make_targets(OBJECT)] * 2, most=8)
    order = samples.rows.argsort()
    alike = samples.alike()[:, order]
    assert alike.shape == (3, 4)
    positive = samples.rows[samples.positive]
    by_row = {int(r): a.tolist() for r, a in zip(positive, alike, strict=True)}
    assert by_row[0] == by_row[1] == [True, True, False, False]
    assert by_row[3] == [False, False, False, True]


def test_samples_are_drawn_at_random(make_targets):
    torch.manual_seed(0)
    draws = {
        tuple(region_samples([elsewhere(50)], [make_targets()], most=4).rows.tolist())
        for _ in range(5)
    }
    assert len(draws) == 5
