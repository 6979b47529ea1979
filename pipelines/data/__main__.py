"""`python -m pipelines.data CONFIG [key=value …]`: run the data job on Ray."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from configs import ConfigError, load
from pipelines.data.job import DataConfig, prepare
from pipelines.data.reader import InputError
from pipelines.data.spread import over_ray
from pipelines.runtime import connect
from pipelines.schema import SPLITS


def main(arguments: list[str]) -> int:
    """Run the job that the arguments describe; 1 and a message when its input is wrong."""
    console = Console(stderr=True)
    if not arguments or arguments[0].startswith("-"):
        console.print("usage: python -m pipelines.data CONFIG [key=value …]", markup=False)
        return 2
    try:
        config = load(arguments[0], DataConfig, arguments[1:])
        connect()
        manifest = prepare(config, over_ray)
    except (ConfigError, InputError) as error:
        console.print(f"error: {error}", markup=False, style="red", soft_wrap=True)
        return 1
    rows = manifest["rows"]["events"]
    out = Console()
    out.print(
        f"{config.name}: {rows['read']:,} impressions read, {rows['duplicates']:,} duplicates, "
        f"{rows['rejected']:,} rejected, {rows['kept']:,} kept",
        soft_wrap=True,
    )
    table = Table()
    for heading in ("split", "examples", "impressions"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split in SPLITS:
        counts = manifest["splits"][split]
        table.add_row(split, f"{counts['examples']:,}", f"{counts['candidates']:,}")
    out.print(table)
    out.print(f"written to {config.folder}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
