"""Rounds weights to GGUF's blocks of 4 and 6 bits, which the `gguf` package reads but does not write.

llama.cpp's own quantiser searches for scales that lose less; for speed and memory it makes no difference.

Layouts: llama.cpp's `block_q4_K` and `block_q6_K`, as `gguf.quants` undoes them.
"""

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

BLOCK = 256  # values that share a float16 factor
KINDS = {"Q4_K": GGMLQuantizationType.Q4_K, "Q6_K": GGMLQuantizationType.Q6_K}

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def kind_in_mixture(name: str, layers: int) -> str:
    """Q4_K or Q6_K: what a tensor is in a file of llama.cpp's mixture Q4_K_M."""
    if name in ("token_embd.weight", "output.weight"):
        return "Q6_K"
    if not name.endswith(("attn_v.weight", "ffn_down.weight")):
        return "Q4_K"
    layer, eighth = int(name.split(".")[1]), layers // 8
    return "Q6_K" if layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2 else "Q4_K"


def blocks(values: Floats, kind: str) -> Bytes:
    """Values [rows, columns] as bytes [rows, n]; the columns fill whole blocks of 256."""
    rounded = _q4_k if kind == "Q4_K" else _q6_k
    return rounded(values.reshape(-1, BLOCK)).reshape(len(values), -1)


def _q4_k(values: Floats) -> Bytes:
    parts = values.reshape(-1, 8, 32)
    least = -parts.min(2).clip(max=0)
    scale = (parts.max(2) + least) / 15
    factors = np.stack([scale.max(1), least.max(1)], 1) / 63
    factors = factors.astype(np.float16)
    d, dmin = factors.astype(np.float32).T[..., None]
    scales, leasts = _ratio(scale, d, 63), _ratio(least, dmin, 63)
    q = _ratio(parts + (dmin * leasts)[..., None], (d * scales)[..., None], 15)
    pairs = q.reshape(-1, 4, 2, 32)
    packed = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(len(parts), -1)
    return np.concatenate([factors.view(np.uint8), _six_bits(scales, leasts), packed], 1)


def _six_bits(scales: Bytes, leasts: Bytes) -> Bytes:
    """Eight scales and eight least values of 6 bits in 12 bytes."""
    low = [part[:, :4] | part[:, 4:] >> 4 << 6 for part in (scales, leasts)]
    return np.concatenate([*low, scales[:, 4:] & 15 | (leasts[:, 4:] & 15) << 4], 1)


def _q6_k(values: Floats) -> Bytes:
    parts = values.reshape(-1, 16, 16)
    scale = np.abs(parts).max(2) / 31
    factor = (scale.max(1, keepdims=True) / 127).astype(np.float16)
    d = factor.astype(np.float32)
    scales = _ratio(scale, d, 127)
    step = (d * scales)[..., None]
    whole = np.rint(np.divide(parts, step, out=np.zeros_like(parts), where=step > 0)).clip(-32, 31)
    q = (whole + 32).astype(np.uint8).reshape(-1, 2, 4, 32)  # two halves of 4 x 32 values
    low = (q[:, :, :2] & 15 | (q[:, :, 2:] & 15) << 4).reshape(len(parts), -1)
    high = q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6
    return np.concatenate([low, high.reshape(len(parts), -1), scales, factor.view(np.uint8)], 1)


def _ratio(values: Floats, step: Floats, most: int) -> Bytes:
    ratio = np.divide(values, step, out=np.zeros_like(values), where=step > 0)
    return np.rint(ratio).clip(0, most).astype(np.uint8)
