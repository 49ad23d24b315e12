"""The worker's side of the Ray launcher, without a cluster."""

import importlib.util
import json
import socket
import time
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from pydantic import ValidationError

from tunesmith.errors import InvalidRequest
from tunesmith.launch.choose import launcher_of
from tunesmith.launch.output import LineReader
from tunesmith.launch.protocol import Start
from tunesmith.launch.ranks import RanksLauncher
from tunesmith.launch.ray.follow import no_cluster
from tunesmith.launch.ray.launcher import RayLauncher, check_launcher
from tunesmith.launch.ray.order import Order
from tunesmith.settings import Resources, Settings


@pytest.mark.parametrize("given", ["child", "auto", "local", "head:6379", "10.0.0.1:6379", "ray://head.svc:10001"])
def test_places_for_trainers(given: str) -> None:
    assert Settings(launcher=given).launcher == given


@pytest.mark.parametrize("given", ["", "ray", "head", "http://head:6379", "ray://head", "head:port"])
def test_a_place_that_is_none_is_refused_with_those_that_are(given: str) -> None:
    with pytest.raises(ValidationError, match=r"give child \(this machine\), or a Ray cluster: its address as head"):
        Settings(launcher=given)


def test_the_setting_names_the_launcher() -> None:
    assert isinstance(launcher_of(Settings(), {}), RanksLauncher)
    assert isinstance(launcher_of(Settings(launcher="auto"), {}), RayLauncher)


def test_without_ray_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without_ray(name: str) -> ModuleSpec | None:
        return None if name in ("ray", "grpc") else found(name)

    monkeypatch.setattr(importlib.util, "find_spec", without_ray)
    with pytest.raises(InvalidRequest, match=r"needs Ray, which is not installed here: pip install 'ray\[client\]"):
        check_launcher(Settings(launcher="auto"))
    check_launcher(Settings())


def test_nodes_without_the_data_directory_need_a_bucket() -> None:
    with pytest.raises(InvalidRequest, match="set storage to a bucket"):
        check_launcher(Settings(launcher="auto", ray_node_dir=Path("/tmp/node")))
    with pytest.raises(InvalidRequest, match="not an absolute path"):
        check_launcher(Settings(launcher="auto", ray_node_dir=Path("node"), storage="s3://b/p"))


def test_resources_are_those_of_the_base_or_of_all() -> None:
    given = {"*": {"cpus": 2}, "big": {"gpus": 4, "cpus": 16, "memory_gib": 64}}
    settings = Settings.model_validate({"ray_resources": given})
    assert settings.resources_of("big") == Resources(gpus=4, cpus=16, memory_gib=64)
    assert settings.resources_of("small") == Resources(cpus=2)
    assert Settings().resources_of("small") == Resources(gpus=0, cpus=1, memory_gib=0)
    with pytest.raises(ValidationError, match="give a whole number of GPUs, or a share of one"):
        Resources(gpus=1.5)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_job_waits_for_a_cluster_that_does_not_answer_and_can_be_stopped(start: Start, data_dir: Path) -> None:
    address = f"127.0.0.1:{closed_port()}"
    secret = {"AWS_SECRET_ACCESS_KEY": "of the worker", "RAY_AUTH_TOKEN": "of the cluster"}
    launcher = RayLauncher(Settings(launcher=address, data_dir=data_dir), {**environment(), **secret})
    trainer = launcher.start(start)
    events = LineReader(start.events)
    try:
        said: list[object] = []
        deadline = time.monotonic() + 60
        while not said:
            assert time.monotonic() < deadline
            assert trainer.poll() is None
            said = [line["message"] for line in events.read()]
            time.sleep(0.05)
        assert said == [f"The Ray cluster at {address} does not answer: the job waits for it"]
        started = given_environment(trainer.child.process.pid)  # type: ignore[attr-defined]
        assert started["RAY_AUTH_TOKEN"] == "of the cluster"
        assert "AWS_SECRET_ACCESS_KEY" not in started
    finally:
        begun = time.monotonic()
        trainer.stop()
    assert trainer.poll() == 143
    assert time.monotonic() - begun < 5
    assert not any("of the worker" in path.read_text() for path in start.spec.parent.glob("*.json"))


def test_a_cluster_that_refuses_the_worker_is_told_from_one_that_is_away() -> None:
    assert no_cluster("head:6379", refuses=False) == (
        "The Ray cluster at head:6379 does not answer: the job waits for it"
    )
    assert "(RAY_AUTH_MODE, RAY_AUTH_TOKEN) have to be the same for both" in no_cluster("head:6379", refuses=True)


def test_a_process_that_loses_its_cluster_without_a_word_interrupts_the_job(start: Start, data_dir: Path) -> None:
    address = f"127.0.0.1:{closed_port()}"
    trainer = RayLauncher(Settings(launcher=address, data_dir=data_dir), environment()).start(start)
    trainer.child.process.kill()  # type: ignore[attr-defined]
    trainer.child.process.wait()  # type: ignore[attr-defined]
    assert (trainer.poll(), trainer.poll()) == (143, 143)
    trainer.stop()
    *_, last = LineReader(start.events).read()
    assert last == {"type": "interrupted", "cause": "outside", "reason": "The connection to the Ray cluster was lost"}


def test_an_order_holds_all_that_the_settings_say(start: Start, data_dir: Path) -> None:
    settings = Settings(
        launcher="auto", data_dir=data_dir, storage="s3://bucket/prefix", ray_node_dir=Path("/node"), lease_seconds=7
    )
    given = replace(start, nice=3, resources=Resources(gpus=4))
    order = RayLauncher(settings, {})._order(given)
    order.write(start.spec.with_name("order.json"))
    assert Order.read(start.spec.with_name("order.json")) == order
    assert (order.ranks, order.silence, order.nice) == (4, 7, 3)
    assert json.loads(start.spec.with_name("order.json").read_text())["bucket"]["node_dir"] == "/node"


def environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def given_environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
