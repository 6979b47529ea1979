"""What listens where, once a feed is served."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
import ray

from tests.serve.served.feed import LOOPBACK

pytestmark = pytest.mark.ray
EVERYWHERE = "0.0.0.0"


def test_what_listens_where(served):
    """HTTP and gRPC are on loopback. HAProxy's statistics (8404) and metrics (9101) are not.

    Ray 2.60 has no setting for the address of these two; when this fails, README and
    configs/serve.yaml have something new to say.
    """
    listening = _listening()
    replicas = _replica_ports()
    assert {port // 10_000 for port in replicas} == {3, 4}  # of HTTP and of gRPC
    for port in (8000, 8500, 9000, 9500, *replicas):
        assert listening[port] == {LOOPBACK}
    assert listening[8404] == listening[9101] == {EVERYWHERE}


def _replica_ports() -> set[int]:
    """Where HAProxy asks replicas; others of the machine may have ports near by."""
    from ray.serve.context import _get_global_client

    controller = _get_global_client()._controller
    groups = ray.get(controller.get_target_groups.remote(from_proxy_manager=True))
    return {target.port for group in groups for target in group.targets}


def _listening() -> dict[int, set[str]]:
    """Port -> addresses, IPv4 and IPv6, on which something of this machine listens."""
    found: dict[int, set[str]] = {}
    for table in Path("/proc/net").glob("tcp*"):  # tcp and, where the machine has IPv6, tcp6
        for line in table.read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == "0A":
                found.setdefault(int(port, 16), set()).add(_address(address))
    return found


def _address(words: str) -> str:
    """As people write it. /proc has 32-bit words in the machine's byte order, little-endian."""
    octets = [bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, len(words), 8)]
    address = ipaddress.ip_address(b"".join(octets))
    return str(getattr(address, "ipv4_mapped", None) or address)  # gRPC's sockets are IPv6 ones
