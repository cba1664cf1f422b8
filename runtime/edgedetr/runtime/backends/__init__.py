"""Inference backends, one file each; every file offers ``SUFFIXES`` and ``open_session``.

A backend's library is imported no earlier than its file, so only the chosen one must be installed.
"""
