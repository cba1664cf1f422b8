import math

from edgedetr.distill.training.run_curves import MOST_POINTS, Curve


def test_a_short_curve_is_what_it_was_given():
    curve = Curve()
    assert math.isnan(curve.last)
    for step, value in enumerate((3.0, 1.0)):
        curve.add(step, value)
    x, y = curve.points()
    assert (x.tolist(), y.tolist(), curve.last) == ([0, 1], [3, 1], 1)


def test_a_long_curve_becomes_means_of_equally_many_steps():
    curve, steps = Curve(), 5 * MOST_POINTS
    for step in range(steps):
        curve.add(step, 2.0 * step)
    x, y = curve.points()
    assert len(x) <= MOST_POINTS
    assert (y == 2 * x).all()
    assert x[:2].tolist() == [3.5, 11.5]  # eight steps each
