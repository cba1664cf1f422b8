import pytest

from edgedetr.distill.config import load_config
from edgedetr.distill.config_text import toml_text


def test_settings_are_read_as_they_were_written(tmp_path):
    text = (
        'methods = ["clock"]\nteacher = "a \\"b\\" \\\\ é.safetensors"\nepochs = 3\n'
        '[data]\nroot = "d"\nclasses = ["Tr\\u00e4ger", "😀"]\nscales = [0.8, 1.0]\n'
        "[student]\nmean = [0.1, 0.2, 0.3]\nstd = [1.0, 1.0, 1e-3]\n"
        "[method.clock]\nweight = 0.5\n"
        '[class_map]\n"Tr\\u00e4ger" = ["a", "b c"]\n'
        "[optimizer]\nlearning_rate = 1e-5\n"
    )
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    config = load_config(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text(toml_text(config.record()), encoding="utf-8")
    assert load_config(tmp_path / "b.toml") == config


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"a": {"b": {"c d": True}}}, '[a.b]\n"c d" = true\n'),
        ({"a": {}, "b": 1e-05}, "b = 1e-05\n"),
    ],
)
def test_tables_and_keys(values, text):
    assert toml_text(values) == text
