"""`python -m train.bundle --retrieval RUN --ranker RUN --data DIR --out DIR [--prefix RUN]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from train.bundle.writing import write


def main() -> int:
    """Write a bundle from the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.bundle")
    for name in ("retrieval", "ranker", "data", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--prefix", type=Path, help="run of a prefix head, for zoom")
    parser.add_argument("--replace", action="store_true", help="put the new one in out's place")
    args = parser.parse_args()
    try:
        write(args.retrieval, args.ranker, args.data, args.out, args.replace, args.prefix)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{args.out}: bundle written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
