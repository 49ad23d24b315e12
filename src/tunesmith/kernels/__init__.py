"""Compiled code, imported only where a model is loaded.

It does what would take torch too many operations, or what torch is too slow at. `docs/kernels.md` is the guide.
"""
