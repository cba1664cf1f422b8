import numpy as np

from edgedetr.distill.synth.scene import IMAGE_HW, sample_scene


def scenes(count):
    return [sample_scene(np.random.default_rng([3, frame])) for frame in range(count)]


def test_a_seed_fixes_a_scene():
    one, two = (sample_scene(np.random.default_rng(5)) for _ in range(2))
    assert one.camera == two.camera
    assert one.props == two.props
    assert [(a.kind, a.pose, a.size_m) for a in one.actors] == [
        (a.kind, a.pose, a.size_m) for a in two.actors
    ]


def test_actors_are_kittis_classes_in_front_of_a_kitti_camera():
    drawn = scenes(40)
    actors = [actor for scene in drawn for actor in scene.actors]
    assert {a.kind for a in actors} == {"Car", "Van", "Pedestrian", "Cyclist"}
    assert all(a.pose.z > 0 for a in actors)
    assert all(scene.camera.hw == IMAGE_HW for scene in drawn)
    assert all(bool(a.style) != bool(a.limbs) for a in actors)


def test_vehicles_have_the_colours_of_their_roles_and_people_none():
    for scene in scenes(5):
        for actor in scene.actors:
            assert (actor.paint is not None) == (actor.kind in {"Car", "Van"})
