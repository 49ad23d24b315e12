"""Dot products of bfloat16 numbers, with sums in float32.

AVX512-BF16 multiplies pairs of bfloat16 numbers with one instruction, AMX whole tiles of them.
The weights of a bfloat16 base are such numbers; what they are multiplied with is rounded to them, so a product is not
that of float32 weights: it is a choice, and off unless asked for.

    rounded   rows of bfloat16 [rows, length], the memory of whole 16 rows
    pairs     of a panel, in memory of the thread: [length / 2, 16, 2], so that two inputs of an output are neighbours

AVX512-BF16 adds up the pairs in order, of each the second product and then the first; where the processor lacks it, two
multiplications and additions in float32 have the same bits, but of denormal numbers, which it takes as 0. AMX adds up
both inputs of the pairs apart for 32 inputs at a time. Either way a sum's order does not depend on other rows, panels
or threads.
"""
