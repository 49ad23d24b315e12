"""Compiled code, imported only where a model is loaded.

It does what would take torch too many operations, or what torch is too slow at. `docs/kernels.md` is the guide.

The limits on a function's arguments and length do not apply here. Addresses, strides and sizes arrive as plain
integers, because a compiled function pays nothing for them, while a tuple or record would have to be built for every
call; and code that is split further may be compiled to sums in another order.
"""
