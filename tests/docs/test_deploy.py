"""What `deploy/` says is true of this version: settings, commands, paths; systemd accepts the unit."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from tunesmith.settings import Settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
UNIT = DEPLOY / "tunesmith.service"
COMMANDS = {"serve", "worker"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    named = set(re.findall(r"TUNESMITH_([A-Z_]+)", path.read_text("utf-8")))
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_containers_run_commands_that_exist_as_nobody_in_particular() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    ours = {name: service for name, service in services.items() if service["image"] == "tunesmith"}
    started = [service["command"] for service in ours.values()]
    for name in ("api", "worker"):
        manifests = [*yaml.safe_load_all((DEPLOY / "kubernetes" / f"{name}.yaml").read_text("utf-8"))]
        pod = manifests[-1]["spec"]["template"]["spec"]
        [container] = pod["containers"]
        started.append(container["args"])
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/cache", "/tmp"}
    assert {command[0] for command in started} == COMMANDS
    assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in ours.values())
    for command in started:
        help_of = [sys.executable, "-m", "tunesmith.cli", command[0], "--help"]
        told = subprocess.run(help_of, capture_output=True, text=True)
        assert all(option in told.stdout for option in command[1:])


def test_kubernetes_names_files_that_are_there() -> None:
    folder = DEPLOY / "kubernetes"
    named = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))["resources"]
    assert {*named, "kustomization.yaml"} == {path.name for path in folder.iterdir()}


def test_the_ray_cluster_has_our_image_and_rays_version_and_a_token() -> None:
    folder = DEPLOY / "kuberay"
    overlay = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    named = {*overlay["resources"], *(patch["path"] for patch in overlay["patches"])} - {"../kubernetes"}
    assert {*named, "kustomization.yaml"} == {path.name for path in folder.iterdir()}
    cluster = yaml.safe_load((folder / "raycluster.yaml").read_text("utf-8"))
    spec, name = cluster["spec"], cluster["metadata"]["name"]
    assert (spec["authOptions"]["mode"], spec["rayVersion"]) == ("token", version("ray"))
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert (container["image"], container["securityContext"]["readOnlyRootFilesystem"]) == ("tunesmith", True)
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/cache", "/tmp"}
    worker = yaml.safe_load((folder / "worker.yaml").read_text("utf-8"))["spec"]["template"]["spec"]["containers"][0]
    given = {variable["name"]: variable for variable in worker["env"]}
    launcher, wanted = given["TUNESMITH_LAUNCHER"]["value"], given["TUNESMITH_RAY_RESOURCES"]["value"]
    settings = Settings.model_validate({"launcher": launcher, "ray_resources": json.loads(wanted)})
    assert settings.launcher == f"ray://{name}-head-svc:10001"
    assert given["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]["name"] == name
    gpus = spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    assert settings.resources_of("any").gpus <= gpus


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/tunesmith/bin/tunesmith", sys.executable), "utf-8")
    told = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
