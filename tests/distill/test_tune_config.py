import pytest

from edgedetr.distill.tune_config import Span, TuneConfig, spans_of


def test_keys_are_dotted_or_tables_in_tables():
    space = {
        "optimizer.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "method": {"clock": {"weight": {"low": 0, "high": 10, "step": 2}}},
        "data": {"augment": {"choices": ["flip", "strong"]}},
    }
    assert TuneConfig(space=space).spans == spans_of(space)
    assert spans_of(space) == {
        "optimizer.learning_rate": Span(1e-4, 1e-2, log=True),
        "method.clock.weight": Span(0, 10, step=2),
        "data.augment": Span(choices=("flip", "strong")),
    }
    assert [span.ends for span in spans_of(space).values()] == [
        *((1e-4, 1e-2), (0, 10)),
        ("flip", "strong"),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "wanted { low, high } or { choices }, found 3"),
        ({"lo": 1, "high": 2}, "unknown key 'lo'; did you mean 'low'"),
        ({"low": 1}, "low, high and step must be numbers"),
        ({"low": True, "high": 2}, "must be numbers"),
        ({"low": 2, "high": 2}, "low must be less than high"),
        ({"low": 0, "high": 2, "log": True}, "log wants a positive low"),
        ({"low": 1, "high": 2, "log": True, "step": 1}, "and no step"),
        ({"choices": []}, "choices must be a list"),
        ({"choices": [1], "low": 0}, "stand alone"),
    ],
)
def test_what_is_no_range_is_refused(given, message):
    with pytest.raises(ValueError, match=f"space.epochs: .*{message}"):
        TuneConfig(space={"epochs": given})
