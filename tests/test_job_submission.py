"""A training job goes to a cluster of two nodes by `ray job submit`, as the README says."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
NODES = ("127.0.0.1", "127.0.0.2")

pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Cluster:
    """Two raylets on this machine that talk only to who has the token in `env`."""

    dashboard: str
    env: dict[str, str]

    def submit(self, *entrypoint: str, env: dict[str, str] | None = None) -> str:
        """Run a job from the project's root; what it and Ray printed."""
        submit = [str(BIN / "ray"), "job", "submit", "--address", self.dashboard]
        done = subprocess.run(
            [*submit, "--working-dir", ".", "--", *entrypoint],
            cwd=ROOT,
            env=env or self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return done.stdout

    def nodes_of(self, class_name: str) -> list[str]:
        """Node on which each actor of this class is, or was."""
        listing = [str(BIN / "ray"), "list", "actors", "--address", self.dashboard]
        done = subprocess.run(
            [*listing, "--filter", f"class_name={class_name}", "--format", "json"],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return [actor["node_id"] for actor in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head and a second node, each with an address of its own as on two machines."""
    token = tmp_path_factory.mktemp("auth") / "token"
    token.write_text(secrets.token_hex(32))
    env = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    env.pop("RAY_ADDRESS", None)
    gcs, dashboard, *agents = _free_ports(6)
    # Not under pytest's folder: the path of a socket in it may not be long.
    temp = f"--temp-dir=/tmp/rayfeed-{secrets.token_hex(4)}"
    head = ["--head", f"--port={gcs}", f"--dashboard-port={dashboard}", temp]
    with (
        _node(NODES[0], [*head, *_agent(agents[:2])], env, ready=dashboard) as first,
        _node(
            NODES[1], [f"--address={NODES[0]}:{gcs}", *_agent(agents[2:])], env, agents[2]
        ) as second,
    ):
        yield Cluster(f"http://127.0.0.1:{dashboard}", env)
        for node in (first, second):  # both at once: each takes its time
            node.send_signal(signal.SIGTERM)


def test_training_runs_on_both_nodes(cluster, prepared, tmp_path):
    """Two workers of one run, one on each node, leave a trained model."""
    printed = cluster.submit(
        *("python", "-m", "train", "configs/ranker/tiny.yaml"),
        *(f"data={prepared}", f"out={tmp_path}", "num_workers=2", "placement=SPREAD"),
        *("num_epochs=1", "batch_size=32", "threads_per_worker=1", "learning.model.emb_size=16"),
    )
    assert "succeeded" in printed, printed
    workers = cluster.nodes_of("RayTrainWorker")
    assert len(workers) == len(set(workers)) == 2
    assert (tmp_path / "ranker-tiny" / "model.safetensors").exists()


def test_what_is_not_needed_stays_at_home(cluster):
    """The package has the code and its settings; .gitignore and .rayignore keep out the rest."""
    listing = "import os, json; print('THERE', json.dumps(sorted(os.listdir('.'))))"
    printed = cluster.submit("python", "-c", listing)
    line = next(line for line in printed.splitlines() if line.startswith("THERE"))
    there = set(json.loads(line.removeprefix("THERE")))
    assert {"configs", "pipelines", "serve", "train", "pyproject.toml"} <= there
    assert not there & {".git", ".venv", "artifacts", ".mypy_cache"}


def test_without_the_token_nothing_runs(cluster):
    """A client with another token is turned away."""
    stranger = {**cluster.env, "RAY_AUTH_TOKEN": "0" * 64}
    del stranger["RAY_AUTH_TOKEN_PATH"]
    printed = cluster.submit("python", "-c", "print('IT RAN')", env=stranger)
    assert "uthentication" in printed
    assert "submitted successfully" not in printed


@contextmanager
def _node(
    address: str, arguments: Sequence[str], env: dict[str, str], ready: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A raylet in the foreground of a process of its own, which ends with this context."""
    arguments = [f"--node-ip-address={address}", *arguments]
    size = ["--num-cpus=2", "--object-store-memory=150000000", "--block"]
    with subprocess.Popen(
        [str(BIN / "ray"), "start", *arguments, *size],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as node:
        try:
            _wait_until_listening(ready)
            yield node
        finally:
            node.send_signal(signal.SIGTERM)  # ends what it started, and nothing else
            node.wait(timeout=60)


def _agent(ports: Sequence[int]) -> list[str]:
    """Ports that two nodes of one machine must not share."""
    return [f"--dashboard-agent-listen-port={ports[0]}", f"--metrics-export-port={ports[1]}"]


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_until_listening(port: int, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"nothing listens on {port}")
