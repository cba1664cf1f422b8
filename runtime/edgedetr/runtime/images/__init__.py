"""Camera images on disk: which are there, what their headers hold, their pixels."""

from edgedetr.runtime.images.reading import (
    image_hw,
    list_images,
    read_frames,
    read_image,
    read_sound_image,
)

__all__ = ["image_hw", "list_images", "read_frames", "read_image", "read_sound_image"]
