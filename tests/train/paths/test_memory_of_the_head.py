"""An output layer that is mapped from a file is never in memory beside its panels, nor while it is checked."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunesmith.kernels.training.step_args import TRAIN_MATRIX
from tunesmith.system.pages import evict_pages, trim_heap
from tunesmith.train.layers.wide_products import wide_head, wide_product
from tunesmith.train.paths.compiled_head import CompiledHead

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MB = 1 << 20
OUTPUTS, INPUTS = 6 << 14, 256  # 48 MB in bfloat16: six blocks of a wide product, of 16 MB in float32


def memory(name: str) -> int:
    status = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


@pytest.fixture
def head(tmp_path: Path) -> nn.Linear:
    """One whose weight is a view of a file."""
    weight = torch.randint(-125, 126, (OUTPUTS, INPUTS), dtype=torch.int8).bfloat16()
    save_file({"weight": weight}, tmp_path / "weights.safetensors")
    head = nn.Linear(1, 1, bias=False).requires_grad_(False)
    head.weight.data = load_file(tmp_path / "weights.safetensors")["weight"]
    return head


def packed(head: nn.Linear) -> Tensor:
    """The first two columns, as `checked` gives them."""
    line = numpy.zeros(1, TRAIN_MATRIX)[0]
    panels = CompiledHead(head, head.weight.detach(), line, lambda *_: None)._panels
    return panels[:, :2].transpose(0, 1).reshape(2, OUTPUTS).float()


def peak_of(head: nn.Linear, use: Callable[[], object]) -> int:
    """By how much a second use raises the peak, from where the weight is not in memory."""
    use()  # what is imported late is in memory
    trim_heap()
    evict_pages(head.weight)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    use()
    return memory("VmHWM") - before


def test_of_the_file_only_a_part_is_in_memory_while_it_is_packed(head: nn.Linear) -> None:
    assert peak_of(head, lambda: packed(head)) < (48 + 24) * MB
    before = memory("RssFile")
    assert torch.equal(packed(head), head.weight[:, :2].T.float())
    evict_pages(head.weight)
    assert memory("RssFile") - before < 4 * MB


def test_of_the_file_only_a_part_is_in_memory_while_it_is_checked(head: nn.Linear) -> None:
    hidden = torch.eye(2, INPUTS)
    with torch.no_grad():
        checked = peak_of(head, lambda: wide_head(head, hidden))
        assert checked < peak_of(head, lambda: wide_product(hidden, head.weight)) - 24 * MB
        assert torch.equal(wide_head(head, hidden), head.weight[:, :2].T.float())


def test_a_product_of_training_keeps_them(head: nn.Linear) -> None:
    head.weight.sum()
    before = memory("RssFile")
    wide_product(torch.eye(2, INPUTS), head.weight)
    assert before - memory("RssFile") < 4 * MB
