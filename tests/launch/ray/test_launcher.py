"""The worker's side of the Ray launcher, without a cluster."""

import importlib.util
import io
import json
import socket
import threading
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
from tunesmith.launch.ray import follow as follow_module
from tunesmith.launch.ray.cluster import actors_of, bundle
from tunesmith.launch.ray.follow import NO_STORAGE, PREPARING, follow, no_cluster
from tunesmith.launch.ray.launcher import RayLauncher, check_launcher
from tunesmith.launch.ray.order import Order
from tunesmith.launch.ray.relay import Lost
from tunesmith.settings import Resources, Settings
from tunesmith.train.protocol.events import EventWriter


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


def test_what_is_set_aside_on_each_of_several_nodes_is_never_nothing() -> None:
    from ray.util.placement_group import validate_placement_group

    asked = Resources(nodes=2, gpus=8, cpus=0, memory_gib=64)
    assert bundle(asked) == {"GPU": 8, "memory": 64 * 2**30}
    nothing = bundle(Resources(nodes=2, cpus=0))
    assert nothing == {"CPU": 0.001}
    validate_placement_group(bundles=[nothing, nothing], strategy="STRICT_SPREAD")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ray_resources": {"*": {"cpus": 0.00005}}}, "precision of the fractional quantity of resource num_cpus"),
        ({"ray_runtime_env": {"conda": "one", "pip": ["tunesmith"]}}, "cannot be specified at the same time"),
    ],
)
def test_what_ray_does_not_take_is_told(start: Start, change: dict[str, object], says: str) -> None:
    settings = Settings.model_validate({"launcher": "auto", **change})
    order = RayLauncher(settings, {})._order(replace(start, resources=settings.resources_of("base")))
    with pytest.raises(Lost, match=f"does not take the setting ray_runtime_env, or the job's resources: .*{says}"):
        actors_of(order)


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


def test_a_job_waits_for_an_object_storage_that_is_away_and_its_owner_reads_no_url(
    start: Start, data_dir: Path, storage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    away = "s3://tunesmith-is-not-there/x"
    settings = Settings(launcher="auto", data_dir=data_dir, storage=away, ray_node_dir=Path("/node"))
    stop, said, connected = threading.Event(), io.StringIO(), threading.Event()
    order = RayLauncher(settings, {})._order(start)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(follow(order, said, stop, connected.set)))
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not said.getvalue():
            assert time.monotonic() < deadline
            assert thread.is_alive()
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join(30)
    assert found == [143]
    assert not connected.is_set()
    assert [json.loads(line)["message"] for line in said.getvalue().splitlines()] == [NO_STORAGE]
    assert f"{away}: there is no such bucket" in capfd.readouterr().err


def test_a_job_that_has_its_nodes_is_not_said_to_wait_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(follow_module, "waiting_for", lambda wanted: "The job waits")
    said = io.StringIO()
    waiting = follow_module._Waiting(Resources(), EventWriter(said))
    for placed in (False, False, True, True):
        waiting.tell(placed=placed)
    assert [json.loads(line)["message"] for line in said.getvalue().splitlines()] == ["The job waits", PREPARING]


def environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def given_environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
