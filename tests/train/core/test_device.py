"""Which device a run takes, what it computes in there, and what it is told when that cannot be had."""

import pytest
import torch

from tunesmith.errors import InvalidRequest
from tunesmith.models import options_check
from tunesmith.models.options_check import trains_on_gpu
from tunesmith.train.core.device import Device, of_gpu, peak_memory
from tunesmith.train.ranks.place import Place


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch as where there are an A100 and a T4, with 60 and 10 GB free; the A100's allocator keeps 3 GB, 1 in use."""
    gigabyte = 10**9
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: ((8, 0), (7, 5))[index])
    free = {"cuda:0": (60 * gigabyte, 80 * gigabyte), "cuda:1": (10 * gigabyte, 15 * gigabyte)}
    monkeypatch.setattr(torch.cuda, "mem_get_info", free.get)
    monkeypatch.setattr(torch.cuda, "memory_reserved", {"cuda:0": 3 * gigabyte, "cuda:1": 0}.get)
    monkeypatch.setattr(torch.cuda, "memory_allocated", {"cuda:0": gigabyte, "cuda:1": 0}.get)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("wanted", "all_weights", "name", "dtype", "tf32", "free"),
    [
        ("auto", False, "cuda:0", torch.bfloat16, False, 62e9),
        ("cuda", True, "cuda:0", torch.float32, True, 62e9),
        ("cuda:1", False, "cuda:1", torch.float32, False, 10e9),
        ("cuda:1", True, "cuda:1", torch.float32, False, 10e9),
    ],
)
def test_the_setting_names_the_device_and_its_capability_the_format(
    wanted: str, all_weights: bool, name: str, dtype: torch.dtype, tf32: bool, free: float
) -> None:
    device = Device.chosen(wanted, all_weights=all_weights)
    assert (device.name, device.dtype, device.tf32, device.is_gpu) == (name, dtype, tf32, True)
    assert device.free_memory() == free


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_is_not_there_is_refused_by_name_and_the_processor_can_be_asked_for() -> None:
    with pytest.raises(InvalidRequest, match=r"train_device is 'cuda:2'; this machine has cuda:0, cuda:1\.") as caught:
        Device.chosen("cuda:2")
    assert caught.value.param == "train_device"
    assert Device.chosen("cpu") == Device("cpu", torch.float32)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_each_rank_of_a_machine_takes_its_own_gpu(wanted: str) -> None:
    devices = [Device.chosen(wanted, Place(rank + 2, 4, local_rank=rank, local_size=2)) for rank in range(2)]
    assert [(one.name, one.dtype, one.sharers) for one in devices] == [
        ("cuda:0", torch.bfloat16, 2),
        ("cuda:1", torch.float32, 2),
    ]
    assert [one.free_memory() for one in devices] == [62e9, 10e9]  # a card is not shared
    assert Device.chosen("cuda:1", Place(1, 2)).name == "cuda:1"  # the other rank is on another machine


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("wanted", "size", "said"),
    [
        ("cuda:1", 2, "train_device is 'cuda:1', one GPU for the 2 ranks of this machine. Set it to 'cuda'"),
        ("auto", 3, "3 ranks were started on a machine of 2 GPUs"),
        ("cuda", 3, "3 ranks were started on a machine of 2 GPUs"),
    ],
)
def test_ranks_never_share_a_gpu(wanted: str, size: int, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Device.chosen(wanted, Place(1, size, local_rank=1, local_size=size))
    assert caught.value.message.startswith(said)
    assert caught.value.code == "invalid_rank"


@pytest.mark.usefixtures("two_gpus")
def test_ranks_on_the_processor_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.train.core.device.free_memory", lambda: 9_000)
    device = Device.chosen("cpu", Place(1, 3, local_rank=1, local_size=3))
    assert (device, device.free_memory()) == (Device("cpu", torch.float32, sharers=3), 3_000)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_machine_without_a_gpu_says_so_and_auto_takes_its_processor() -> None:
    with pytest.raises(InvalidRequest, match="train_device is 'cuda', but PyTorch finds no GPU"):
        Device.chosen("cuda")
    assert Device.chosen("auto") == Device.best() == Device("cpu", torch.float32)


@pytest.mark.parametrize(("capability", "dtype"), [((9, 0), torch.bfloat16), ((7, 5), torch.float32)])
def test_an_older_gpu_gets_float32_and_a_sentence_why(capability: tuple[int, int], dtype: torch.dtype) -> None:
    device = of_gpu(0, capability, all_weights=False)
    assert device.dtype == dtype
    wanted = "compute capability 8.0, this one has 7.5" if dtype == torch.float32 else ""
    assert wanted in device.reason
    assert bool(wanted) == bool(device.reason)


def test_the_peak_is_the_processes_own_unless_a_gpu_is_used() -> None:
    before = peak_memory(torch.device("cpu"))
    assert before > 50_000_000
    held = torch.ones(30_000_000)
    assert peak_memory(held.device) >= before


@pytest.mark.parametrize(
    ("device", "card", "expected"),
    [
        ("cuda:1", False, True),
        ("cuda", False, True),
        ("cpu", True, False),
        ("auto", False, False),
        ("auto", True, None),
    ],
)
def test_a_trainer_on_a_gpu_is_known_before_torch_is_imported(
    device: str,
    card: bool,
    expected: bool | None,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path_factory.mktemp("gpus")
    monkeypatch.setattr(options_check, "CARDS", (folder,) if card else (folder / "none",))
    has_cuda = torch.version.cuda is not None
    assert trains_on_gpu(device) is (has_cuda if expected is None else expected)
