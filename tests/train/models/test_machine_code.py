"""Libraries of a package: what is refused, and what is left behind."""

from __future__ import annotations

import ctypes
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch

from tests.train.models.packages import with_compiler
from train.models.machine_code import Library

IN_PACKAGE = "ranker/data/aotinductor"


def archived(file: Path, *names: str) -> Path:
    """A package with files of these names, all of the same nonsense."""
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(f"{IN_PACKAGE}/{name}", b"no library" * 100)
    return file


@pytest.mark.parametrize(
    ("names", "error", "reason"),
    [
        (("other/a.so", "one/a.cpp"), RuntimeError, "0 libraries where there is to be one"),
        (("one/a.so", "one/b.so"), RuntimeError, "2 libraries where there is to be one"),
        (("one/a.so", "other/a.so"), OSError, "invalid ELF header"),
        (("one/a.so", "one/a.json", "one/a_metadata.json"), RuntimeError, "no C interface"),
    ],
)
def test_what_is_no_library_is_refused(tmp_path, names, error, reason):
    """A package without the model, with too much of it, or with what is no machine code."""
    with pytest.raises(error, match=reason):
        Library(archived(tmp_path / "ranker.pt2", *names), "one")


def test_another_library_is_refused(tmp_path):
    """One that can be loaded, and that AOTInductor did not make."""
    other = next(Path(torch.__file__).parent.glob("lib/libtorch_global_deps.so"))
    with zipfile.ZipFile(tmp_path / "ranker.pt2", "w") as archive:
        archive.write(other, f"{IN_PACKAGE}/one/a.so")
    with pytest.raises(RuntimeError, match="none of AOTInductor's"):
        Library(tmp_path / "ranker.pt2", "one")


def test_what_is_no_package_is_refused(tmp_path):
    """A file that is no archive, and one that is not there."""
    (tmp_path / "ranker.pt2").write_bytes(b"no archive")
    with pytest.raises(zipfile.BadZipFile):
        Library(tmp_path / "ranker.pt2", "one")
    with pytest.raises(FileNotFoundError):
        Library(tmp_path / "other.pt2", "one")


@with_compiler
@pytest.mark.filterwarnings("ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning")
def test_a_library_computes_with_its_file_gone(tmp_path, monkeypatch):
    """It lets go of Python's lock, and refuses other tensors than its own without harm."""
    from torch._inductor.package import package_aoti

    step, given = torch.nn.Linear(3, 2), torch.randn(4, 3)
    program = torch.export.export(torch.nn.Sequential(step, torch.nn.Tanh()), (given,))
    options = {"aot_inductor.package": True}
    files = torch._inductor.aot_compile(program.module(), (given,), options=options)
    package_aoti(str(tmp_path / "ranker.pt2"), {"one": files})
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(unpacked))

    library = Library(tmp_path / "ranker.pt2", "one")
    assert type(library._code) is ctypes.CDLL  # a PyDLL would keep the lock
    assert not list(unpacked.iterdir())
    for wrong in ([], [given, given]):
        with pytest.raises(RuntimeError, match=f"takes 1 tensors, got {len(wrong)}"):
            library(wrong)
    with pytest.raises(RuntimeError, match=r"^Run: "):
        library([torch.randn(4)])
    for _ in range(3):
        (found,) = library([given])
        torch.testing.assert_close(found, step(given).detach().tanh())
