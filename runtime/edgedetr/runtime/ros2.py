"""A ROS 2 node: ``sensor_msgs/Image`` in, ``vision_msgs/Detection2DArray`` out.

::

    python -m edgedetr.runtime.ros2 --ros-args -p model:=student.onnx -r image:=/camera/image

Parameters: ``model`` (file or package), ``threshold``, ``public_key`` and ``state`` (for packages),
``backend`` (empty: chosen). Topics: ``image``, ``detections``; the checkout's launch file
``runtime/edgedetr_launch.py`` sets them. Only the newest image waits: what a busy detector cannot
take is dropped by the subscription.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedetr.runtime.boxes import cxcywh_from_xyxy
from edgedetr.runtime.detector import Detector
from edgedetr.runtime.errors import DataError, EdgeDetrError
from edgedetr.runtime.types import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedetr.runtime.types import Detections

CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0)}
"""Where red, green and blue lie in each supported encoding."""


def frame_from_message(message: Any) -> Frame:  # noqa: ANN401 - sensor_msgs/Image
    """Take the pixels of a ``sensor_msgs/Image``; rows may be padded.

    Raises:
        DataError: If the encoding is another, or the data are too short for its size.
    """
    if message.encoding not in CHANNELS:
        known = ", ".join(CHANNELS)
        raise DataError(f"an image is encoded as {message.encoding!r}; wanted one of {known}")
    samples = 4 if "a" in message.encoding else 3
    height, width, step = message.height, message.width, message.step
    pixels = np.frombuffer(message.data, np.uint8)
    if min(height, width) < 1 or step < samples * width or pixels.size < height * step:
        raise DataError(
            f"an image of {width}x{height} with {step} bytes a row holds {pixels.size} bytes"
        )
    rows = pixels[: height * step].reshape(height, step)[:, : samples * width]
    image = rows.reshape(height, width, samples)[..., list(CHANNELS[message.encoding])]
    stamp = message.header.stamp
    return Frame(
        np.ascontiguousarray(image),
        stamp.sec * 1_000_000_000 + stamp.nanosec,
        message.header.frame_id,
    )


def message_from_detections(
    found: Detections,
    header: Any,  # noqa: ANN401 - std_msgs/Header
    class_names: Sequence[str],
) -> Any:  # noqa: ANN401 - vision_msgs/Detection2DArray
    """Write detections as a ``vision_msgs/Detection2DArray``, boxes in pixels of the image."""
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    array = Detection2DArray(header=header)
    boxes = cxcywh_from_xyxy(found.boxes).tolist()
    for (x, y, width, height), score, label in zip(
        boxes, found.scores.tolist(), found.labels.tolist(), strict=True
    ):
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = class_names[label]
        hypothesis.hypothesis.score = score
        detection = Detection2D(header=header, results=[hypothesis])
        detection.bbox.center.position.x = x
        detection.bbox.center.position.y = y
        detection.bbox.size_x = width
        detection.bbox.size_y = height
        array.detections.append(detection)
    return array


def make_node() -> Any:  # noqa: ANN401 - rclpy.node.Node
    """Open the model of the parameters and subscribe; ROS must be initialised.

    Raises:
        EdgeDetrError: If the model cannot be opened; see `Detector.open`.
    """
    from rclpy.node import Node
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image
    from vision_msgs.msg import Detection2DArray

    node = Node("edgedetr")

    def parameter(name: str, default: Any) -> Any:  # noqa: ANN401
        return node.declare_parameter(name, default).value

    how: dict[str, Any] = {"threshold": parameter("threshold", 0.3), "steady": True}
    for name, kind in (("backend", str), ("public_key", Path), ("state", Path)):
        if value := parameter(name, ""):
            how[name] = kind(value)
    detector = Detector.open(Path(parameter("model", "student.onnx")), **how)
    publisher = node.create_publisher(Detection2DArray, "detections", 10)

    def detect(message: Any) -> None:  # noqa: ANN401
        try:
            found = detector.detect(frame_from_message(message))
        except EdgeDetrError as error:
            node.get_logger().error(str(error))
            return
        names = detector.spec.class_names
        publisher.publish(message_from_detections(found, message.header, names))

    newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, "image", detect, newest)
    node.context.on_shutdown(detector.close)
    return node


def main() -> None:
    """Spin until ROS shuts down."""
    import rclpy

    rclpy.init()
    node = make_node()
    try:
        rclpy.spin(node)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
