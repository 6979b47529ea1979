"""Feeds to measure, each on a cluster of its own, which ends with the block that uses it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import yaml

from serve.deploy import deploy, writing_to

ROOT = Path(__file__).parents[2]
DAG, FUSED = "configs/serve.yaml", "configs/serve_fused.yaml"
_START_S, _STOP_S, _POLL_S = 240.0, 60.0, 0.1


class Feed(NamedTuple):
    """A feed that runs.

    Attributes:
        url: where it listens.
        metrics: where its metrics are; "" = it has none.
    """

    url: str
    metrics: str = ""


def config_of(
    file: str, options: Mapping[str, Any] | None = None, of: Collection[str] = ()
) -> dict[str, Any]:
    """A Serve config file's content, with other options of some deployments; of = () is all.

    An option that is None is left out.
    """
    values: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())
    for deployment in values["applications"][0]["deployments"]:
        if not of or deployment["name"] in of:
            deployment |= options or {}
        for name in [name for name, value in deployment.items() if value is None]:
            del deployment[name]
    return values


def with_replicas(file: str, deployment: str, num: int) -> dict[str, Any]:
    """A Serve config file's content with so many replicas of a deployment, and one of all else."""
    config = config_of(file, {"autoscaling_config": None, "num_replicas": 1})
    for each in config["applications"][0]["deployments"]:
        if each["name"] == deployment:
            each["num_replicas"] = num
    return config


@contextmanager
def cluster() -> Iterator[None]:
    """A cluster that this process starts, with all that is deployed onto it; nothing is left."""
    from pipelines.runtime import connect

    others = set(psutil.Process().children(recursive=True))
    connect()
    try:
        yield
    finally:
        _end_cluster(others)


@contextmanager
def deployed(
    config: Mapping[str, Any], args: Mapping[str, Any], feed: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Callable[..., str]]]:
    """A feed on a cluster that this process starts: its URL, and a way to deploy it otherwise.

    Args:
        config: content of a Serve config file.
        args: what differs in the application's `args`.
        feed: settings of the timeline instead of those of its file; None = as they are.
    """
    # What ends may still write when its folder goes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, cluster():

        def change(config: Mapping[str, Any], args: Mapping[str, Any]) -> str:
            path, timeline = Path(folder) / "serve.yaml", Path(folder) / "feed.yaml"
            path.write_text(yaml.safe_dump(dict(config)))
            changes = {**args, **writing_to(folder)}
            if feed is not None:
                timeline.write_text(yaml.safe_dump(dict(feed)))
                changes["feeds"] = {"timeline": str(timeline)}
            return deploy(path, changes)

        yield change(config, args), change


def settle() -> None:
    """Wait until no replica is to start, stop or be replaced."""
    from ray import serve  # not before `connect`: it reads its flags when imported

    while serve.status().applications["rayfeed"].status != "RUNNING":
        time.sleep(_POLL_S)


def replicas_now(deployment: str) -> dict[str, float]:
    """How many serve, and how many serve or are being started; NaN while it is deployed anew."""
    from ray import serve  # not before `connect`: it reads its flags when imported

    (application,) = serve.status().applications.values()
    if (status := application.deployments.get(deployment)) is None:
        return dict.fromkeys(("running", "wanted"), math.nan)
    states = status.replica_states
    running = float(states.get("RUNNING", 0))
    return {"running": running, "wanted": running + states.get("STARTING", 0)}


def handle_of(deployment: str, method: str) -> Any:
    """To call a method of a feed's deployment from any thread of the process that deployed it."""
    from ray import serve  # not before `connect`: it reads its flags when imported

    handle = serve.get_deployment_handle(deployment, "rayfeed")
    handle._init(_run_router_in_separate_loop=True)  # there is no event loop here
    return handle.options(method_name=method)


def _end_cluster(others: Collection[psutil.Process]) -> None:
    """Shut Serve and Ray down, and kill what is left of them: nothing may keep the ports."""
    import ray
    from ray import serve  # not before `connect`: it reads its flags when imported

    started = [one for one in psutil.Process().children(recursive=True) if one not in others]
    try:
        serve.shutdown()
        ray.shutdown()
    finally:
        _kill(started)


def _kill(processes: Sequence[psutil.Process | subprocess.Popen[bytes]]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def served(
    config: Mapping[str, Any],
    args: Mapping[str, Any],
    feed: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Feed]:
    """As `deployed`, from another process, with these variables beside those of configs/ray.env."""
    command = [sys.executable, "-m", __name__, json.dumps([config, args, feed])]
    with _running(command, environment or {}) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"http://"):
                yield Feed(*line.decode().split())
                return
        raise RuntimeError("the feed was not deployed; see above")


@contextmanager
def plain(bundle: str, num_candidates: int, port: int = 8001) -> Iterator[Feed]:
    """The server written by hand, see `tests.bench.plain_server`."""
    module = "tests.bench.plain_server"
    options = ["--port", str(port), "--candidates", str(num_candidates)]
    url = f"http://127.0.0.1:{port}"
    alone = {"OMP_NUM_THREADS": "1"}  # threads of a pool that spin beside each other
    with _running([sys.executable, "-m", module, bundle, *options], alone) as process:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                httpx.get(url).raise_for_status()
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{module}: did not start; see above") from None
                time.sleep(_POLL_S)
        yield Feed(url)


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when its stdin does, so also when this process is killed.

    No signal: what a shell starts in the background ignores SIGINT, and so do its children.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            _kill([*psutil.Process(process.pid).children(recursive=True), process])
            process.wait()


def main() -> None:
    """Deploy, say where, and stay until stdin ends."""
    config, args, feed = json.loads(sys.argv[1])
    with deployed(config, args, feed) as (url, _):
        import ray

        node = ray.nodes()[0]
        metrics = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        print(url, metrics, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
