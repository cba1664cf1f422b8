import json

import pytest

from edgedetr.distill.weights.source_config import read_source_config
from edgedetr.runtime.errors import ArtifactError

LABELS = {"0": "N/A", "1": "person", "2": "car", "3": ""}


@pytest.fixture
def config(tmp_path):
    """Writes a config.json; returns its folder."""

    def write(**values):
        known = {"model_type": "d_fine", "id2label": LABELS, "d_model": 64, "dtype": "float32"}
        kept = {k: v for k, v in (known | values).items() if v is not None}
        (tmp_path / "config.json").write_text(json.dumps(kept))
        return tmp_path

    return write


def test_rows_without_a_class_are_known(config):
    source = read_source_config(config())
    assert source.family == "d_fine"
    assert source.values == {"d_model": 64}
    assert (source.rows, source.class_names, source.class_rows) == (4, ("person", "car"), (1, 2))


def test_where_every_row_has_a_class_none_is_chosen(config):
    source = read_source_config(config(id2label={"1": "b", "0": "a"}))
    assert (source.rows, source.class_names, source.class_rows) == (2, ("a", "b"), ())


def test_a_hyphen_in_the_type_is_the_same_family(config):
    values = {"backbone_config": {"model_type": "resnet"}}
    assert read_source_config(config(model_type="dab-detr", **values)).family == "dab_detr"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "sam3"}, r"model_type is 'sam3', no architecture .* d_fine, dab_detr, "),
        ({"model_type": None}, r"model_type is None, no architecture"),
        ({"model_type": "faster_rcnn"}, r"no architecture that can be imported"),
        ({"id2label": None}, r"id2label is missing, .* add it"),
        ({"id2label": {"1": "a", "2": "b"}}, r"2 names but none of row 0; number them from 0 to 1"),
        ({"id2label": {"0": "a", "1": "a"}}, r"the name 'a' twice"),
        ({"id2label": {"0": "N/A"}}, r"names no class"),
    ],
)
def test_a_config_that_cannot_be_imported_is_refused_in_one_line(config, values, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        read_source_config(config(**values))
    assert "\n" not in str(caught.value)


def test_a_damaged_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(ArtifactError, match=r"config\.json: no readable config"):
        read_source_config(tmp_path)


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"holds no config\.json; wanted a folder"):
        read_source_config(tmp_path)
