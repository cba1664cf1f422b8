"""A package's bill of materials is CycloneDX and names models, data sets, software, licences."""

import json

import pytest

from edgedetr.export.package.documents import BILL_OF_MATERIALS
from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.files import sha256
from edgedetr.runtime.package.reader import read_package


@pytest.fixture
def bill(int8, int8_checked, accuracy, tmp_path):
    """Makes a package of an INT8 model with all that a bill can name; returns the bill."""
    licence = tmp_path / "MODEL-LICENSE"
    licence.write_text("CC0", encoding="utf-8")
    contents = Contents(**int8_checked, report=accuracy(int8), licenses=(licence,), counter=7)

    def make(name="p.tar"):
        package(contents, tmp_path / name)
        with read_package(tmp_path / name, require_signature=False) as opened:
            return opened.read(BILL_OF_MATERIALS).decode()

    return make


def test_what_it_names(bill, int8):
    found = json.loads(bill())
    assert found["metadata"]["component"]["version"] == "7"
    parts = {part["bom-ref"]: part for part in found["components"]}
    model = parts["models/m.int8.onnx"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": sha256(int8)}]
    assert model["licenses"] == [{"license": {"name": "MODEL-LICENSE"}}]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0] == {"type": "AP", "value": "0.4"}
    assert metrics[2] == {"type": "AP50", "value": "0.9", "slice": "Car"}
    data = [parts[d["ref"]] for d in model["modelCard"]["modelParameters"]["datasets"]]
    assert [d["name"] for d in data] == ["roads, val", "frames of the calibration"]
    assert {p["name"] for p in parts.values() if p["type"] == "library"} >= {"numpy", "onnx"}
    numpy = next(p for p in parts.values() if p["name"] == "numpy")
    assert numpy["purl"] == f"pkg:pypi/numpy@{numpy['version']}"
    texts = {p["name"] for p in parts.values() if p["type"] == "file"}
    assert texts == {"licenses/MODEL-LICENSE", "licenses/edgedetr.LICENSE"}


def test_references_lead_to_components(bill):
    found = json.loads(bill())
    refs = [part["bom-ref"] for part in found["components"]]
    assert len(set(refs)) == len(refs)
    for entry in found["dependencies"]:
        assert entry["ref"] in {*refs, "package"}
        assert {*entry["dependsOn"]} <= {*refs}


def test_the_same_package_has_the_same_serial_number(bill):
    assert bill("a.tar") == bill("b.tar")


def test_it_validates(bill):
    validation = pytest.importorskip(
        "cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed"
    )
    schema = pytest.importorskip("cyclonedx.schema")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(bill()) is None
    broken = bill().replace('"machine-learning-model"', '"model"')
    assert validator.validate_str(broken) is not None
