import ast

import pytest
import yaml

from edgedetr.export.deploy.isaac_ros import FILES, LAUNCH, PARAMETERS, write_graph
from edgedetr.runtime.errors import ArtifactError
from edgedetr.runtime.spec import ModelSpec

SPEC = ModelSpec(
    (8, 16), ("Car", "Pedestrian"), mean=(0.5, 0.25, 0.0), std=(0.2, 0.4, 1.0), pad_value=7
)


def parameters(folder):
    nodes = yaml.safe_load((folder / PARAMETERS).read_text(encoding="utf-8"))
    return {name: node["ros__parameters"] for name, node in nodes.items()}


def test_parameters_say_what_the_spec_says(packaged, tmp_path):
    write_graph(packaged(SPEC), tmp_path / "made")
    assert {p.name for p in (tmp_path / "made").iterdir()} == {*FILES, "model.onnx"}
    found = parameters(tmp_path / "made")
    resize, pad, normalize = found["resize_node"], found["pad_node"], found["normalize_node"]
    assert (resize["output_width"], resize["output_height"]) == (16, 8)
    assert resize["keep_aspect_ratio"] is True
    assert (pad["padding_type"], pad["border_pixel_color_value"]) == (
        "BOTTOM_RIGHT",
        [7.0, 7.0, 7.0, 255.0],
    )
    assert (normalize["mean"], normalize["stddev"]) == ([127.5, 63.75, 0.0], [51.0, 102.0, 255.0])
    assert found["reshape_node"]["output_tensor_shape"] == [1, 3, 8, 16]
    engine = found["tensor_rt"]
    assert engine["input_tensor_names"] == engine["input_binding_names"] == ["images"]
    assert engine["output_tensor_names"] == engine["output_binding_names"] == ["logits", "boxes"]
    assert found["reshape_node"]["output_tensor_name"] == "images"
    assert "rtdetr_decoder" not in found
    readme = (tmp_path / "made/README.md").read_text(encoding="utf-8")
    assert "not run" in readme
    assert "The graph ends at" in readme


def test_the_launch_file_starts_the_nodes_that_have_parameters(packaged, tmp_path):
    for folder, spec in (("a", SPEC), ("b", ModelSpec((8, 16), ("Car", "Van"), resize="stretch"))):
        write_graph(packaged(spec), tmp_path / folder)
        source = (tmp_path / folder / LAUNCH).read_text(encoding="utf-8")
        texts = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)}
        assert set(parameters(tmp_path / folder)) <= texts
        assert ("pad_node" in texts) == (spec.resize == "letterbox")
        assert {"model_file_path", "engine_file_path", "model.onnx"} <= texts


def test_an_engine_is_the_engine_file(packaged, tmp_path):
    write_graph(packaged(engine="tensorrt==10.3.0"), tmp_path / "made", "models/m.engine")
    assert (tmp_path / "made/model.plan").read_bytes() == b"engine"
    assert 'HERE / "model.plan"' in (tmp_path / "made" / LAUNCH).read_text(encoding="utf-8")


def test_a_model_that_isaac_ros_cannot_feed(packaged, tmp_path):
    with pytest.raises(ArtifactError, match="antialias = true, which Isaac ROS cannot do"):
        write_graph(packaged(ModelSpec((8, 16), ("a", "b"), antialias=True)), tmp_path / "made")
    with pytest.raises(ArtifactError, match=r"holds no model x\.onnx; it has models/tiny\.onnx"):
        write_graph(packaged(), tmp_path / "made", "x.onnx")


def test_a_batch_of_several_cameras_is_refused(packaged, tmp_path):
    with pytest.raises(ArtifactError, match="takes 2 images at once, and the graph of Isaac ROS"):
        write_graph(packaged(batch=2), tmp_path / "made")
    assert not (tmp_path / "made").exists()
