"""`python -m serve.rpc.generate`: make scored_posts_pb2*.py anew from scored_posts.proto.

Needs grpcio-tools, of the dev extra. What it writes is committed, so nobody who serves needs it.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTO = "serve/rpc/scored_posts.proto"
NAMES = tuple(f"scored_posts_pb2{end}" for end in (".py", ".pyi", "_grpc.py"))


def generate(out: Path) -> None:
    """Write the files of `NAMES` to `out/serve/rpc`.

    Raises:
        RuntimeError: the .proto is not one; the compiler has said why.
    """
    from grpc_tools import protoc

    into = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"--proto_path={ROOT}", *into, PROTO]):
        raise RuntimeError(f"{PROTO} cannot be compiled")


if __name__ == "__main__":
    generate(ROOT)
