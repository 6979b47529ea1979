"""cluster.yaml is what `ray up` takes, and safe to put on a network."""

from __future__ import annotations

import logging
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from pipelines.runtime import ENVIRONMENT

ROOT = Path(__file__).parent.parent
ON_NODE = "/home/ray/rayfeed"


@pytest.fixture(scope="module")
def cluster() -> dict:
    """cluster.yaml with Ray's defaults filled in, as `ray up` does before it checks."""
    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)
    return prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))


def test_ray_accepts_it(cluster):
    """The file passes the schema check of `ray up`."""
    validate_config(cluster)


def test_ray_would_notice_a_mistake(cluster):
    """The check is real: a misspelt key is refused."""
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config({**cluster, "max_wrokers": 3})


def test_the_shared_folder_can_be_turned_on():
    """With the lines about /shared uncommented, each node mounts it and shows it its container."""
    text = (ROOT / "cluster.yaml").read_text()
    text = re.sub(
        r"^( *)# (initialization_commands:|  - |- -v )", r"\1\2", text, flags=re.MULTILINE
    )
    cluster = prepare_config(yaml.safe_load(text))
    validate_config(cluster)
    assert "-v /shared:/shared" in cluster["docker"]["run_options"]
    assert any(" mount " in command for command in cluster["initialization_commands"])


def test_it_has_a_head_and_autoscaled_workers_of_both_kinds(cluster):
    """One head without work of its own, CPU workers and GPU workers that can go to none."""
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    assert types["cpu"]["max_workers"] > types["cpu"]["min_workers"] >= 1
    assert types["gpu"]["max_workers"] > types["gpu"]["min_workers"] == 0


def test_every_node_starts_with_our_environment(cluster):
    """What precedes `ray start`, run here, leaves all that configs/ray.env sets, token included."""
    settings = dict(
        line.split("=", 1)
        for line in ENVIRONMENT.read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert settings["RAY_AUTH_MODE"] == "token"
    for start in _starts(cluster):
        environment = _environment(start.replace(ON_NODE, str(ROOT)))
        assert environment.items() >= settings.items()
        assert environment["PYTHONPATH"] == str(ROOT)


def test_no_node_starts_without_our_environment(cluster, tmp_path):
    """Where configs/ray.env is missing, which would mean no token, Ray is not started."""
    for start in _starts(cluster):
        with pytest.raises(subprocess.CalledProcessError):
            _environment(start.replace(ON_NODE, str(tmp_path)))


def test_the_token_is_copied_and_the_dashboard_is_on_loopback(cluster):
    """Every node has the token that Ray asks for; the head shows its dashboard to itself only."""
    head, _ = _starts(cluster)
    assert "--dashboard-host=127.0.0.1" in head
    assert "/home/ray/.ray/auth_token" in cluster["file_mounts"]


def test_every_node_installs_the_lock_file(cluster):
    """Head and workers install exactly what was tested."""
    for group in ("head_setup_commands", "worker_setup_commands"):
        assert any("requirements.lock" in command for command in cluster[group])


def _starts(cluster: dict) -> list[str]:
    """The command that starts Ray on the head, and the one on workers."""
    groups = ("head_start_ray_commands", "worker_start_ray_commands")
    starts = [c for group in groups for c in cluster[group] if "ray start" in c]
    assert len(starts) == 2
    return starts


def _environment(start: str) -> dict[str, str]:
    """What `ray start` would see, from an empty environment."""
    before, found, _ = start.partition("ray start")
    assert found
    printed = subprocess.run(
        ["bash", "-c", f"{before} env -0"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(entry.split("=", 1) for entry in printed.split("\0") if entry)
