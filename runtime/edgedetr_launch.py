r"""Launch file of ROS 2: detect objects on a topic of images.

    ros2 launch runtime/edgedetr_launch.py model:=/etc/edgedetr/front.tar \
        public_key:=/etc/edgedetr/fleet.key.pub image:=/front/image_raw

Several cameras are several launches with their own ``name``. The node is a module of the wheel
edgedetr-runtime, so it runs in the Python that ``python`` names and is built with no workspace. It
starts again two seconds after it ended, which it does where a GPU fails for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launch import LaunchDescription

ARGUMENTS = {
    "model": ("student.onnx", "File or package."),
    "threshold": ("0.3", "Lowest score of a detection."),
    "public_key": ("", "Key that must have signed a package."),
    "state": ("", "Folder that keeps the newest counter; older packages are refused."),
    "backend": ("", "onnxruntime, openvino, tensorrt, ...; empty: chosen."),
    "image": ("image", "Topic of sensor_msgs/Image to read."),
    "detections": ("detections", "Topic of vision_msgs/Detection2DArray to write."),
    "name": ("edgedetr", "Name of the node."),
    "python": ("python3", "Interpreter that has the wheel edgedetr-runtime."),
}
"""Default and meaning of each argument."""
PARAMETERS = ("model", "threshold", "public_key", "state", "backend")
"""Those that are parameters of the node."""


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the node."""
    from launch import LaunchDescription
    from launch.actions import DeclareLaunchArgument, ExecuteProcess
    from launch.substitutions import LaunchConfiguration

    value = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    set_parameters = [part for n in PARAMETERS for part in ("-p", [f"{n}:=", value[n]])]
    remapped = {"image": "image", "detections": "detections", "__node": "name"}
    set_names = [part for to, n in remapped.items() for part in ("-r", [f"{to}:=", value[n]])]
    command = [value["python"], "-m", "edgedetr.runtime.ros2", "--ros-args"]
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=meaning)
        for name, (default, meaning) in ARGUMENTS.items()
    ]
    node = ExecuteProcess(
        cmd=[*command, *set_parameters, *set_names],
        output="screen",
        respawn=True,
        respawn_delay=2.0,
    )
    return LaunchDescription([*declared, node])
