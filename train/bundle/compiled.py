"""`python -m train.bundle.compiled BUNDLE --out DIR`: the same bundle, its ranker compiled, too.

A replica that serves it loads machine code instead of compiling; see train/models/package.py. It is
made for the kind of machine that it is made on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path

from pipelines.whole import new_folder, save_json
from train.bundle import PACKAGE, BundleError, load
from train.bundle.writing import check_out
from train.models.compiled import compiler_problem
from train.models.package import CompileSettings, compile_package
from train.models.text_towers import TextRanker


def with_compiled(bundle: Path, out: Path, shapes: CompileSettings, replace: bool = False) -> None:
    """Write the bundle of a local folder anew, with its ranker as machine code for these shapes.

    Args:
        bundle: its folder.
        out: where to; every reader sees all of it or nothing.
        shapes: of passes.
        replace: `out` may exist and is thrown away.

    Raises:
        BundleError: `bundle` is none, or ranks by text alone; `out` exists; there is no compiler.
    """
    check_out(out, replace)
    before = load(bundle)
    model = before.load_ranker()
    if isinstance(model, TextRanker):
        raise BundleError(f"{bundle}: ranks by text alone, where nothing is to be compiled")
    if problem := compiler_problem():
        raise BundleError(f"{bundle}: cannot be compiled: {problem}")
    inputs = partial(before.unknown_inputs, model.config.features)
    with new_folder(out) as folder:
        shutil.copytree(before.folder, folder, dirs_exist_ok=True)
        card = compile_package(model, shapes, inputs, folder / PACKAGE)
        compiled = card.model_dump(mode="json")
        save_json(folder / "card.json", before.card | {"compiled": compiled})


def main() -> int:
    """Write a bundle anew from the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.bundle.compiled")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--replace", action="store_true", help="put the new one in out's place")
    for axis, field in CompileSettings.model_fields.items():
        parser.add_argument(f"--{axis}", type=int, nargs="+", default=field.default, metavar="N")
    args = parser.parse_args()
    try:
        shapes = CompileSettings(viewers=args.viewers, candidates=args.candidates)
        with_compiled(args.bundle, args.out, shapes, args.replace)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{args.out}: bundle written, its ranker compiled")
    return 0


if __name__ == "__main__":
    sys.exit(main())
