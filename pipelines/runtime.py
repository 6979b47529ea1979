"""Joins the Ray cluster named by RAY_ADDRESS, or starts one on this machine."""

from __future__ import annotations

import logging
import os
from typing import Any

import ray

# Read when Ray starts, so set before `ray.init`; anything set outside wins.
_ENVIRONMENT = {
    # A token is needed to talk to any cluster; `ray.init` makes one for a local cluster.
    "RAY_AUTH_MODE": "token",
    # On two cores these two are worth 5x in requests per second (HAProxy in front of the
    # replicas, one event loop per replica).
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing leaves the machine unasked
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker with no GPU keeps the environment's view
}


def connect(num_cpus: int | None = None) -> None:
    """Connect this process to Ray, once; a second call does nothing.

    Args:
        num_cpus: CPUs of a cluster started here; None = the machine's. Ignored
            when RAY_ADDRESS names a running cluster.

    Raises:
        ConnectionError: RAY_ADDRESS names a cluster that does not answer.
    """
    if ray.is_initialized():
        return
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"num_cpus": num_cpus} if address == "local" else {}
    ray.init(address=address, logging_level=logging.WARNING, **options)
