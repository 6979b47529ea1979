"""Deploys a Serve config file on the connected cluster, as `serve run` does, from Python."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

_POLL_S = 0.2


class DeployError(RuntimeError):
    """The application did not come up; the text says what Serve says."""


def deploy(
    config: str | Path, args: Mapping[str, Any] | None = None, timeout_s: float = 300
) -> str:
    """Deploy and wait until it answers; ray.serve.shutdown() ends it.

    Connect to a cluster first (pipelines.runtime.connect): Serve reads its flags from
    the environment when it is imported, which is why it is imported here.

    Args:
        config: a file such as configs/serve.yaml with one application.
        args: what to change in the application's `args`.
        timeout_s: seconds to wait for replicas and routes.

    Returns:
        Where it listens: http://host:port.

    Raises:
        DeployError: it failed to start, or took longer than `timeout_s`.
        pydantic.ValidationError: the file is no Serve config.
    """
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    values = yaml.safe_load(Path(config).read_text())
    (application,) = values["applications"]
    application["args"] = {**application.get("args", {}), **(args or {})}
    schema = ServeDeploySchema.model_validate(values)
    http = schema.http_options
    serve.start(schema.proxy_location, http.model_dump())
    client = _get_global_client()
    assert client is not None  # `start` made it
    client.deploy_apps(schema)
    url = f"http://{http.host}:{http.port}"
    deadline = time.monotonic() + timeout_s
    while not _answers(f"{url}/healthz"):
        status = serve.status().applications[application["name"]]
        if status.status in ("DEPLOY_FAILED", "UNHEALTHY") or time.monotonic() > deadline:
            said = [f"{name}: {d.message}" for name, d in status.deployments.items() if d.message]
            raise DeployError("\n".join([f"{status.status}: {status.message}", *said]))
        time.sleep(_POLL_S)
    return url


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False
