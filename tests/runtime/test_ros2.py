"""The ROS 2 node, against stand-ins for ROS that have the fields of its messages and no others."""

from __future__ import annotations

import inspect
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from edgedetr.runtime import ros2
from edgedetr.runtime.errors import ArtifactError, DataError
from edgedetr.runtime.types import Detections


def message_class(name, **fields):
    """Make a class whose instances take these fields and no others, as ROS messages do."""

    def initialise(self, **values):
        for field, make in fields.items():
            object.__setattr__(self, field, values.pop(field) if field in values else make())
        assert not values, f"{name} has no {values}"

    def assign(self, field, value):
        assert field in fields, f"{name} has no {field}"
        object.__setattr__(self, field, value)

    return type(name, (), {"__init__": initialise, "__setattr__": assign})


Time = message_class("Time", sec=int, nanosec=int)
Header = message_class("Header", stamp=Time, frame_id=str)
Image = message_class(
    "Image", header=Header, height=int, width=int, encoding=str, step=int, data=bytes
)
Point2D = message_class("Point2D", x=float, y=float)
Pose2D = message_class("Pose2D", position=Point2D, theta=float)
BoundingBox2D = message_class("BoundingBox2D", center=Pose2D, size_x=float, size_y=float)
ObjectHypothesis = message_class("ObjectHypothesis", class_id=str, score=float)
Hypothesis = message_class("ObjectHypothesisWithPose", hypothesis=ObjectHypothesis)
Detection2D = message_class("Detection2D", header=Header, results=list, bbox=BoundingBox2D, id=str)
Detection2DArray = message_class("Detection2DArray", header=Header, detections=list)


class Node:
    """What the node uses of rclpy's."""

    parameters: ClassVar[dict[str, object]] = {}

    def __init__(self, name):
        self.name = name
        self.published = []
        self.errors = []
        self.closing: list[Any] = []
        self.context = SimpleNamespace(on_shutdown=self.closing.append)

    def declare_parameter(self, name, default):
        return SimpleNamespace(value=self.parameters.get(name, default))

    def create_publisher(self, kind, topic, profile):
        assert (kind, topic, profile) == (Detection2DArray, "detections", 10)
        return SimpleNamespace(publish=self.published.append)

    def create_subscription(self, kind, topic, callback, profile):
        assert (kind, topic) == (Image, "image")
        assert profile == {"depth": 1, "reliability": "best effort"}
        self.callback = callback

    def get_logger(self):
        return SimpleNamespace(error=self.errors.append)


@pytest.fixture
def ros(monkeypatch):
    """Puts the stand-ins where the node looks for ROS; returns the Node class."""
    modules: dict[str, dict[str, Any]] = {
        "rclpy": {},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": {
            "QoSProfile": dict,
            "ReliabilityPolicy": SimpleNamespace(BEST_EFFORT="best effort"),
        },
        "sensor_msgs": {},
        "sensor_msgs.msg": {"Image": Image},
        "vision_msgs": {},
        "vision_msgs.msg": {
            "Detection2D": Detection2D,
            "Detection2DArray": Detection2DArray,
            "ObjectHypothesisWithPose": Hypothesis,
        },
    }
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return Node


def image_message(pixels, encoding="rgb8", padding=0):
    height, width, samples = pixels.shape
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=9)
    return Image(
        header=Header(stamp=Time(sec=3, nanosec=7), frame_id="front"),
        height=height,
        width=width,
        encoding=encoding,
        step=width * samples + padding,
        data=rows.tobytes(),
    )


PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("encoding", ros2.CHANNELS)
@pytest.mark.parametrize("padding", [0, 5])
def test_pixels_of_every_encoding(encoding, padding):
    samples = 4 if "a" in encoding else 3
    frame = ros2.frame_from_message(image_message(PIXELS[..., :samples], encoding, padding))
    wanted = PIXELS[..., :3] if encoding.startswith("rgb") else PIXELS[..., 2::-1]
    assert np.array_equal(frame.image, wanted)
    assert (frame.timestamp_ns, frame.frame_id) == (3_000_000_007, "front")


def test_images_that_are_none_are_refused():
    message = image_message(PIXELS[..., :3], "mono16")
    with pytest.raises(DataError, match="encoded as 'mono16'"):
        ros2.frame_from_message(message)
    message = image_message(PIXELS[..., :3])
    message.data = message.data[:-1]
    with pytest.raises(DataError, match="holds 17 bytes"):
        ros2.frame_from_message(message)


@pytest.mark.usefixtures("ros")
def test_detections_become_a_message():
    boxes = np.array([[10, 20, 30, 60]], np.float32)
    found = Detections(boxes, np.array([0.5], np.float32), np.array([1]))
    header = Header(frame_id="front")
    message = ros2.message_from_detections(found, header, ("Car", "Cyclist"))
    [detection] = message.detections
    box = detection.bbox
    assert (box.center.position.x, box.center.position.y) == (20, 40)
    assert (box.size_x, box.size_y) == (20, 40)
    assert detection.results[0].hypothesis.class_id == "Cyclist"
    assert detection.results[0].hypothesis.score == 0.5
    assert message.header is detection.header is header


def test_node_answers_images_and_survives_bad_ones(ros, tiny_onnx, monkeypatch):
    monkeypatch.setattr(ros, "parameters", {"model": str(tiny_onnx()), "backend": "onnxruntime"})
    node = ros2.make_node()
    node.callback(image_message(np.full((8, 16, 3), 255, np.uint8)))
    node.callback(image_message(np.zeros((8, 16, 3), np.uint8), "yuv422"))
    node.callback(image_message(np.zeros((8, 16, 3), np.uint8)))
    assert [len(message.detections) for message in node.published] == [1, 0]
    assert len(node.errors) == 1
    for close in node.closing:
        close()
    with pytest.raises(ValueError, match="closed"):
        node.callback(image_message(np.zeros((8, 16, 3), np.uint8)))


def test_node_does_not_start_without_a_model(ros, tmp_path, monkeypatch):
    monkeypatch.setattr(ros, "parameters", {"model": str(tmp_path / "none.onnx")})
    with pytest.raises(ArtifactError, match="missing"):
        ros2.make_node()


def launched(monkeypatch, **given):
    """Read the launch file with stand-ins for launch; return its command with these arguments."""
    made: dict[str, Any] = {}
    launch, actions, substitutions = (
        ModuleType(n) for n in ("launch", "launch.actions", "launch.substitutions")
    )
    launch.LaunchDescription = list  # type: ignore[attr-defined]

    def declare(name, *, default_value, description):
        assert description.endswith(".")
        made.setdefault("arguments", {})[name] = given.get(name, default_value)

    actions.DeclareLaunchArgument = declare  # type: ignore[attr-defined]
    actions.ExecuteProcess = lambda **named: made.update(named)  # type: ignore[attr-defined]
    substitutions.LaunchConfiguration = lambda name: (name,)  # type: ignore[attr-defined]
    for module in (launch, actions, substitutions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    file = Path(__file__).parents[2] / "runtime" / "edgedetr_launch.py"
    runpy.run_path(str(file))["generate_launch_description"]()

    def text(part):
        if isinstance(part, tuple):
            return made["arguments"][part[0]]
        return part if isinstance(part, str) else "".join(map(text, part))

    assert (made["respawn"], made["respawn_delay"]) == (True, 2.0)
    return [text(part) for part in made["cmd"]]


def test_the_launch_file_starts_the_node(monkeypatch):
    command = launched(monkeypatch, model="m.tar", image="/front/image_raw", name="front")
    assert command[:4] == ["python3", "-m", "edgedetr.runtime.ros2", "--ros-args"]
    rest = command[4:]
    pairs = list(zip(rest[::2], rest[1::2], strict=True))
    assert [v for flag, v in pairs if flag == "-r"] == [
        "image:=/front/image_raw",
        "detections:=detections",
        "__node:=front",
    ]
    assert ("-p", "model:=m.tar") in pairs
    source = inspect.getsource(ros2.make_node)
    for flag, text in pairs:
        if flag == "-p":  # the node knows the parameter
            assert f'"{text.partition(":=")[0]}"' in source
