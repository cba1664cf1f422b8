"""Accuracy as COCO and KITTI measure it, and the predictions behind it."""
