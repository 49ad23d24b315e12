"""Products with panels against numpy's."""

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from tests.environments import BARE_PYTEST
from tests.kernels.cases.elementwise_cases import product
from tests.kernels.reference import KINDS, stored, wide

from tunesmith.kernels.vectors import HAS_HALF, LANES, Number


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 23])
def test_a_product_is_that_of_the_stored_values(rows: int, kind: int) -> None:
    random = numpy.random.default_rng(rows)
    x = random.standard_normal((rows, 37), dtype=numpy.float32)
    weight = stored(random.standard_normal((7 * LANES, 37), dtype=numpy.float32), kind)
    exact = wide(x) @ wide(weight).T
    numpy.testing.assert_allclose(product(kind, x, weight), exact, atol=2e-5, rtol=1e-5)
    beside = random.standard_normal(exact.shape, dtype=numpy.float32)
    numpy.testing.assert_allclose(product(kind, x, weight, beside), exact + beside, atol=2e-5, rtol=1e-5)
    numpy.testing.assert_allclose(product(kind, x, weight, beside[0]), exact + beside[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_the_same_to_the_bit_beside_any_others(kind: int) -> None:
    random = numpy.random.default_rng(0)
    x = random.standard_normal((20, 576), dtype=numpy.float32)
    weight = stored(random.standard_normal((5 * LANES, 576), dtype=numpy.float32), kind)
    alone = numpy.concatenate([product(kind, x[row : row + 1], weight) for row in range(20)])
    for count in (2, 3, 5, 8, 11, 20):
        assert numpy.array_equal(product(kind, x[:count], weight), alone[:count])
    assert numpy.array_equal(product(kind, x, weight[LANES:]), alone[:, LANES:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 40])
def test_narrow_panels_give_the_bits_of_wide_ones(rows: int, kind: int) -> None:
    random = numpy.random.default_rng(rows)
    x = random.standard_normal((rows, 131), dtype=numpy.float32)
    weight = stored(random.standard_normal((7 * LANES, 131), dtype=numpy.float32), kind)
    same = wide(weight).astype(numpy.float32)
    assert numpy.array_equal(product(kind, x, weight), product(Number.FLOAT32, x, same))


@pytest.mark.drawn(1)  # each compiles everything again
@pytest.mark.parametrize("processor", ["haswell", "x86-64"])
@pytest.mark.skipif(not HAS_HALF or os.uname().machine != "x86_64", reason="the code of these runs on newer x86 only")
def test_older_processors_have_code_of_their_own(processor: str, tmp_path: Path) -> None:
    """Sixteen registers of eight numbers, and neither of both nor float16: this file once more, made for them."""
    environment = {**os.environ, "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": FEATURES[processor]}
    environment |= {**BARE_PYTEST, "NUMBA_CACHE_DIR": str(tmp_path)}
    code = "from tunesmith.kernels import multiply, vectors; print(vectors.HAS_HALF, multiply.MAX_TILE_ROWS)"
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == [str(processor == "haswell"), "6"]
    again = [sys.executable, "-m", "pytest", "-q", "-k", "not older", "-p", "no:cacheprovider", __file__]
    subprocess.run(again, env=environment, capture_output=True, check=True)


FEATURES = {"haswell": "+avx,+avx2,+fma,+f16c", "x86-64": "+sse2"}
