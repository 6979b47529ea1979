"""Feeds to put load on, each in processes of its own, which end with the block that uses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import yaml

from serve.deploy import deploy, writing_to

ROOT = Path(__file__).parents[2]
_START_S, _STOP_S = 240.0, 60.0


class Feed(NamedTuple):
    """A feed that runs.

    Attributes:
        url: where it listens.
        metrics: where its metrics are; "" = it has none.
    """

    url: str
    metrics: str = ""


@contextmanager
def served(
    config: str,
    args: Mapping[str, Any],
    feed: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Feed]:
    """A Serve config file deployed on a cluster of its own.

    Args:
        config: path of the file.
        args: what differs in the application's `args`.
        feed: settings of the timeline instead of those of its file; None = as they are.
        environment: variables that Ray starts with, beside those of configs/ray.env.
    """
    # What ends may still write when its folder goes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        changes = {**args, **writing_to(folder)}
        if feed is not None:
            path = Path(folder) / "feed.yaml"
            path.write_text(yaml.safe_dump(dict(feed)))
            changes["feeds"] = {"timeline": str(path)}
        command = [sys.executable, "-m", __name__, config, json.dumps(changes)]
        with _running(command, environment or {}) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(b"http://"):
                    yield Feed(*line.decode().split())
                    return
            raise RuntimeError(f"{config}: was not deployed; see above")


@contextmanager
def plain(bundle: str, num_candidates: int, port: int = 8001) -> Iterator[Feed]:
    """The server written by hand, see `tests.bench.plain_server`."""
    module = "tests.bench.plain_server"
    options = ["--port", str(port), "--candidates", str(num_candidates)]
    url = f"http://127.0.0.1:{port}"
    with _running([sys.executable, "-m", module, bundle, *options], {}) as process:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                httpx.get(url).raise_for_status()
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{module}: did not start; see above") from None
                time.sleep(0.1)
        yield Feed(url)


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:  # and its cluster with it: nothing may keep the ports
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()


def main() -> None:
    """Deploy, say where, and stay until interrupted."""
    import ray

    from pipelines.runtime import connect

    config, changes = sys.argv[1:]
    connect()
    from ray import serve  # after `connect`: it reads its flags when imported

    try:
        url, node = deploy(config, json.loads(changes)), ray.nodes()[0]
        metrics = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        print(url, metrics, flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
