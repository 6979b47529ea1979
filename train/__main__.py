"""`python -m train CONFIG [key=value ...]`: train one model on Ray."""

from __future__ import annotations

import argparse
import json
import sys
import time

from configs import load
from train.loop import TrainConfig
from train.worker import RESULT, fit


def main() -> int:
    """Train, then print where the model is and how its validation loss went."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("config", help="a file of configs/ranker/ or configs/retrieval/")
    parser.add_argument("overrides", nargs="*", help="settings as a.b=value")
    args = parser.parse_args()
    started = time.monotonic()
    try:
        config = load(args.config, TrainConfig, args.overrides)
        folder = fit(config)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    for epoch in json.loads((folder / RESULT).read_text())["epochs"]:
        print(
            "  ".join(
                f"{name} {value:.4g}"
                for name, value in epoch.items()
                if not isinstance(value, dict)
            )
        )
    print(f"{folder}: trained in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
