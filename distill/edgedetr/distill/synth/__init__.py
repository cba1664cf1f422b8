"""Rendered road scenes, written as a KITTI folder: the data set that comes with EdgeDETR.

Everything stands on a flat ground seen by a pinhole camera and is painted from far to near, so that
boxes, truncation and occlusion are the renderer's own and not estimates.
"""
