"""What the documents of a package are made from."""

from edgedetr.export.package.facts import DataSet, Figure, facts_of
from edgedetr.export.package.write import Contents, package
from edgedetr.runtime.package.reader import read_package


def test_facts_come_from_what_is_packed(int8, int8_checked, accuracy, tmp_path):
    trained = {"data": {"root": "roads", "train_split": "train"}}
    contents = Contents(**int8_checked, report=accuracy(int8, made_by=trained))
    package(contents, tmp_path / "p")
    with read_package(tmp_path / "p", require_signature=False) as opened:
        files = {f.name: tmp_path / "p" / f.name for f in opened.manifest.files}
        facts = facts_of(opened.manifest, files)
    assert facts.name == "m.int8"
    assert [(s.name, s.kind) for s in facts.chain.starts] == [("m.onnx", "import")]
    assert [p.name for p in facts.origins["models/m.int8.onnx"].parents] == [
        "m.onnx",
        "m.calib.json",
    ]
    assert facts.figures == {
        "models/m.int8.onnx": (Figure("AP", 0.4), Figure("AP50", 0.6), Figure("AP50", 0.9, "Car"))
    }
    assert facts.data_sets == (
        DataSet(
            "evaluation",
            "roads, val",
            {"format": "kitti", "frames": "180", "objects": "Car 371, Pedestrian 159"},
        ),
        DataSet("training", "roads, train", {}),
        DataSet(
            "calibration",
            "frames of the calibration",
            {"frames": "40", "sha256 of the frames": "ab" * 32},
        ),
    )


def test_a_report_of_another_shape_gives_no_figures_and_stops_nothing(checked, fp32, accuracy):
    odd = accuracy(fp32, data=["roads"], made_by={"data": 3}, ap=None, ap50_by_class=None)
    output = fp32.with_name("p.tar")
    package(Contents(**checked, report=odd), output)
    with read_package(output, require_signature=False) as opened:
        card = opened.read("documents/MODEL_CARD.md").decode()
    assert "No report in the package names the data." in card
    assert "| m.onnx | AP50 |  | 0.6 |" in card
