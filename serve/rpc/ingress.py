"""Where Ray Serve listens for gRPC: at the address of its HTTP, as http_options.host says.

Left to itself Ray 2.60 binds gRPC to every address of the machine. It leaves the binding to an
extension point (ray.serve._private.default_impl), and calls one function of ours in each process
that listens, proxy or replica, before it does: the one that configs/ray.env names.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.serve._private import default_impl
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve._private.grpc_util import gRPCGenericServer

from configs import ConfigError
from serve.rpc.scored_posts_pb2_grpc import add_ScoredPostsServiceServicer_to_server


def bind_like_http() -> None:
    """Let gRPC servers that this process starts from now on listen where HTTP does.

    Named by RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH; adds no middleware to HTTP.
    """
    default_impl.add_grpc_address = _listen


def add_scored_posts(servicer: Any, server: Any) -> None:
    """Add ScoredPostsService to a gRPC server: one of `grpc_servicer_functions` in serve.yaml.

    Raises:
        ConfigError: `bind_like_http` was not called, so the server is open to the network.
    """
    if default_impl.add_grpc_address is not _listen:
        raise ConfigError(
            "gRPC would listen on every address: start Ray with what configs/ray.env sets "
            "(RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH), or take grpc_options out of the Serve "
            "config file"
        )
    add_ScoredPostsServiceServicer_to_server(servicer, server)


def at_host(address: str, host: str) -> str:
    """`address`, which ends in :PORT, at another host, IPv6 ones in brackets."""
    port = address.rpartition(":")[2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(grpc_server: gRPCGenericServer, server_address: str) -> None:
    """In place of Serve's own: the port of `server_address`, at the host of HTTP."""
    controller: Any = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    options: Any = ray.get(controller.get_http_config.remote())
    grpc_server.add_insecure_port(at_host(server_address, options.host))
