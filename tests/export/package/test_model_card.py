"""A package's model card."""

import pytest

from edgedetr.export.package.documents import MODEL_CARD
from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.package.reader import read_package


@pytest.fixture
def card(tmp_path):
    """Packs what is given and returns the card."""

    def make(**contents):
        package(Contents(**contents), tmp_path / "p.tar")
        with read_package(tmp_path / "p.tar", require_signature=False) as opened:
            return opened.read(MODEL_CARD).decode()

    return make


def test_what_it_says(card, checked, accuracy, fp32, tmp_path):
    licence = tmp_path / "MODEL-LICENSE"
    licence.write_text("CC0", encoding="utf-8")
    text = card(**checked, report=accuracy(fp32), licenses=(licence,))
    assert "finds: Car, Pedestrian" in text
    assert "| m.onnx | AP50 | Car | 0.9 |" in text
    assert "| evaluation | roads, val | format kitti; frames 180;" in text
    assert "- begins at the checkpoint m.safetensors, SHA-256 " in text
    assert "The model's licence is in `licenses/MODEL-LICENSE`." in text


def test_without_a_report_it_says_that_nothing_was_measured(card, checked):
    text = card(**checked)
    assert "holds no report.json: accuracy and cost were not measured" in text
    assert "No licence of the model's weights came with it" in text
    assert "model-index" not in text


def test_the_hub_reads_its_metadata(card, checked, accuracy, fp32):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    data = hub.ModelCard(card(**checked, report=accuracy(fp32))).data
    assert (data.library_name, data.pipeline_tag) == ("edgedetr", "object-detection")
    assert data.tags == ["detr", "onnx", "fp32"]
    found = [
        (r.dataset_name, r.dataset_type, r.metric_type, r.metric_value) for r in data.eval_results
    ]
    assert found == [("roads, val", "kitti", "ap", 0.4), ("roads, val", "kitti", "ap50", 0.6)]


def test_texts_of_others_are_no_markup(card, checked, accuracy, fp32):
    data = {"root": "a|b<script>\n# big", "split": "val"}
    text = card(**checked, report=accuracy(fp32, data=data))
    assert r"| evaluation | a\|b\<script\> \# big, val |" in text
