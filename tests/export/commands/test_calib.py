from edgedetr.export.commands.calib import listed


def test_the_training_images_of_any_format(tmp_path):
    image = tmp_path / "images" / "train" / "a.png"
    for path in (image, tmp_path / "labels" / "train" / "a.txt"):
        path.parent.mkdir(parents=True)
        path.write_text("", encoding="utf-8")
    assert listed(tmp_path, None) == listed(tmp_path, "yolo") == [image]


def test_calibration_takes_them(edgedetr, tmp_path):
    (tmp_path / "data.yaml").write_text("names: [car]\ntrain: nowhere\n", encoding="utf-8")
    given = ("calib", "collect", tmp_path / "none.onnx", "--data", tmp_path)
    status, _, error = edgedetr(*given)
    assert (status, "no such folder of images" in error) == (1, True)
    status, _, error = edgedetr(*given, "--format", "coko")
    assert (status, "did you mean 'coco'" in error) == (2, True)
