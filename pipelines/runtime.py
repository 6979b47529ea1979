"""Joins the Ray cluster named by RAY_ADDRESS, or starts one on this machine."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray._raylet import Config as RayConfig  # type: ignore[attr-defined]

ENVIRONMENT = Path(__file__).parents[1] / "configs" / "ray.env"


def connect(num_cpus: int | None = None) -> None:
    """Connect this process to Ray, once; a second call does nothing.

    Settings of configs/ray.env that are not in the environment are put there first:
    Ray reads them when it starts.

    Args:
        num_cpus: CPUs of a cluster started here; None = the machine's. Ignored
            when RAY_ADDRESS names a running cluster.

    Raises:
        ConnectionError: RAY_ADDRESS names a cluster that does not answer.
    """
    if ray.is_initialized():
        return
    for line in ENVIRONMENT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            os.environ.setdefault(name, value)
    RayConfig.initialize("")  # Ray read the environment when it was imported; it must look again
    address = os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"num_cpus": num_cpus} if address == "local" else {}
    ray.init(
        address=address,
        logging_level=logging.WARNING,
        log_to_driver=os.environ["RAY_LOG_TO_DRIVER"] == "1",
        **options,
    )


def quiet_data() -> None:
    """Keep Ray Data's own bars and notes off the terminal: commands show their progress."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # says bars are off
    ray.data.DataContext.get_current().enable_progress_bars = False
