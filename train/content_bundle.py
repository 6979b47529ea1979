"""`python -m train.content_bundle DATA --out DIR`: a bundle that needs no training.

Posts are found and ranked by the cosine of their text to the mean of those that the viewer
liked; a viewer without a history gets what is popular, as from any bundle. DATA is prepared data
with vectors of text (python -m pipelines.data.encode).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipelines.facts import Facts
from pipelines.features import FeatureSpec
from pipelines.prepared import read_manifest
from train.bundle.writing import assemble
from train.models.retrieval import RetrievalConfig
from train.models.text_towers import make_towers

SIMILARITY = "text_similarity"  # what such a bundle ranks by, among the names of actions
_NOTHING_ELSE = dict.fromkeys(("ids", "context", "rates", "user_features"), False)


def frozen(content_size: int, history_len: int = 32) -> RetrievalConfig:
    """The towers that compare texts as they were encoded.

    Args:
        content_size: of the vectors, E.
        history_len: newest events of a viewer that count.
    """
    spec = FeatureSpec(content_size=content_size, history_len=history_len, **_NOTHING_ELSE)
    return RetrievalConfig(emb_size=content_size, features=spec, text="frozen")


def write_content(
    data: Path,
    out: Path,
    replace: bool = False,
    history_len: int = 32,
    prefix: Path | None = None,
) -> None:
    """Write the bundle.

    Args:
        data: prepared data with vectors of text.
        out: as for `bundle.write`.
        replace: as for `bundle.write`.
        history_len: as for `frozen`.
        prefix: as for `bundle.write`.

    Raises:
        BundleError: `out` exists, or is remote.
        ValueError: there are no vectors.
        FileNotFoundError: there is no prepared data.
    """
    manifest = read_manifest(data)
    content_size = Facts.load(data).content.shape[1]
    if not content_size:
        raise ValueError(
            f"{data}: no vectors of text; run `python -m pipelines.data.encode {data}` first"
        )
    config = frozen(content_size, history_len)
    actions = [*manifest["actions"], SIMILARITY]
    spec = config.features.model_copy(update={"num_actions": len(actions)})
    config = config.model_copy(update={"features": spec})
    # No action was learned: none is predicted, and the similarity alone makes the score.
    blend = dict.fromkeys(actions, 0.0) | {SIMILARITY: 1.0}
    models = {"retrieval": (config.model_dump(mode="json"), make_towers(config).state_dict())}
    assemble(models, blend, [], data, out, replace, prefix)


def main() -> int:
    """Write a bundle from the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.content_bundle", description=__doc__)
    parser.add_argument("data", type=Path, help="prepared data with vectors of text")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prefix", type=Path, help="run of a prefix head, for zoom")
    parser.add_argument("--replace", action="store_true", help="put the new one in out's place")
    args = parser.parse_args()
    try:
        write_content(args.data, args.out, args.replace, prefix=args.prefix)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{args.out}: bundle written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
