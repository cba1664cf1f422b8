"""Families that come imported alone, one file each: they detect and teach, and do not train here.

A family's file has the functions of `edgedetr.distill.detectors.TeachingModule`.
"""
