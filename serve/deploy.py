"""Deploys a Serve config file on the connected cluster, as `serve run` does, from Python."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import ValidationError

from serve.api_health import Health

_POLL_S = 0.2


class DeployError(RuntimeError):
    """The application did not come up; the text says what Serve says."""


def writing_to(folder: str | Path) -> dict[str, Any]:
    """`args` of the application with which all that it writes goes below `folder`."""
    live = Path(folder) / "live"
    return {
        "event_log": str(Path(folder) / "events"),
        "journal": {"kind": "sqlite", "path": str(live / "journal.db")},
        "viewers": {"kind": "sqlite", "path": str(live / "viewers.db")},
        "live": {"training_log": str(live), "dead_letters": str(live / "dead_letters")},
    }


def deploy(
    config: str | Path, args: Mapping[str, Any] | None = None, timeout_s: float = 300
) -> str:
    """Deploy and wait until it serves its bundle; ray.serve.shutdown() ends it.

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
    from ray.exceptions import RayError
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    values = yaml.safe_load(Path(config).read_text())
    (application,) = values["applications"]
    application["args"] = {**application.get("args", {}), **(args or {})}
    schema = ServeDeploySchema.model_validate(values)
    http = schema.http_options
    url = f"http://{http.host}:{http.port}"
    try:
        serve.start(schema.proxy_location, http.model_dump(), schema.grpc_options.model_dump())
    except (RayError, TimeoutError) as error:
        raise DeployError(_not_listening(f"{http.host}:{http.port}", config, error)) from error
    client = _get_global_client()
    assert client is not None  # `start` made it
    client.deploy_apps(schema)
    bundle = _bundle(application)
    deadline = time.monotonic() + timeout_s
    while problem := _not_serving(url, bundle):
        status = serve.status().applications[application["name"]]
        if status.status in ("DEPLOY_FAILED", "UNHEALTHY") or time.monotonic() > deadline:
            said = [f"{name}: {d.message}" for name, d in status.deployments.items() if d.message]
            raise DeployError("\n".join([f"{status.status}: {status.message}", *said, problem]))
        time.sleep(_POLL_S)
    return url


def _not_listening(where: str, config: str | Path, error: Exception) -> str:
    """What to do when Serve's HTTP does not start; HAProxy's own words are the error's cause."""
    return (
        f"{where}: Serve's HTTP did not start: {getattr(error, 'cause', None) or error}\n"
        f"If the port is in use, stop what listens there (`ss -ltnp`; a feed of your own: "
        f"`serve shutdown`) or change http_options.port in {config}."
    )


def _bundle(application: Mapping[str, Any]) -> str:
    """The bundle that the routes are to serve; "" if the file leaves it to serve.settings.Args."""
    bundle = application["args"].get("bundle", "")
    for deployment in application.get("deployments", []):
        if deployment["name"] == "FeedHandler":
            bundle = (deployment.get("user_config") or {}).get("bundle", bundle)
    return bundle


def _not_serving(url: str, bundle: str) -> str | None:
    """Why it cannot be said that `url` serves `bundle`, as yet; None if it does."""
    try:
        reply = httpx.get(f"{url}/healthz", timeout=2)
    except httpx.RequestError as error:
        return f"{url} does not answer: {error}"
    try:
        health = Health.model_validate_json(reply.content)
    except ValidationError:
        return f"{url} answers {reply.status_code}, not as a feed does"
    # Replicas make a relative path absolute, from where the project is on their machine.
    served, wanted = Path(health.model.bundle).parts, Path(bundle).parts
    if served[len(served) - len(wanted) :] == wanted:
        return None
    return f"{url} serves {health.model.bundle}, not {bundle}: {health.problem or 'as yet'}"
