"""Libraries made by AOTInductor, called by the C interface that each of them has.

That interface is torch's torch/csrc/inductor/aoti_runtime/interface.h. torch's own loader for
Python keeps the interpreter's lock for as long as the code runs (pytorch/pytorch#197516), so that
a replica would do nothing else meanwhile; a call by ctypes lets go of it. The loader also leaves
what it unpacks behind when its process is killed.
"""

from __future__ import annotations

import ctypes
import tempfile
import weakref
import zipfile
from pathlib import Path

import torch
from torch import Tensor

_SIZE, _POINTER = ctypes.c_size_t, ctypes.c_void_p
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = _POINTER, [ctypes.py_object, ctypes.c_char_p]
_capsule_of = ctypes.pythonapi.PyCapsule_New
_capsule_of.restype = ctypes.py_object
_capsule_of.argtypes = [_POINTER, ctypes.c_char_p, _POINTER]


class Library:
    """One library of a package, which may be called from any number of threads; one runs at once.

    It has no constants and calls no operator of Python's. Its code stays mapped for as long as the
    process runs (2 MB; C++'s unique symbols forbid to unload it), what it allocated does not.
    """

    def __init__(self, package: Path, name: str) -> None:
        """Load it; nothing of it stays on disk.

        Args:
            package: as `torch._inductor.package.package_aoti` writes it.
            name: of one of its models.

        Raises:
            OSError, zipfile.BadZipFile: no package, or a library that this machine cannot load.
            RuntimeError: it has no model of that name, or not just one library of it; or the
                library itself says why.
        """
        with zipfile.ZipFile(package) as archive, tempfile.TemporaryDirectory() as folder:
            inside = f"/data/aotinductor/{name}/"
            found = [n for n in archive.namelist() if inside in n and n.endswith(".so")]
            if len(found) != 1:
                raise RuntimeError(f"{len(found)} libraries where there is to be one")
            file = Path(folder) / "library.so"
            file.write_bytes(archive.read(found[0]))
            self._code = ctypes.CDLL(str(file))  # mapped from now on, whatever becomes of the file
        self._container = _POINTER()
        self._do("CreateWithDevice", ctypes.byref(self._container), _SIZE(1), b"cpu", None)
        num = _SIZE()
        self._do("GetNumOutputs", self._container, ctypes.byref(num))
        self._outputs = _POINTER * num.value
        # Not when the process ends, where a thread may still be running it.
        delete = self._code.AOTInductorModelContainerDelete
        weakref.finalize(self, delete, self._container).atexit = False

    def __call__(self, inputs: list[Tensor]) -> list[Tensor]:
        """Run it on contiguous tensors of the shapes and dtypes that it was made for.

        Raises:
            RuntimeError: the library says why.
        """
        handles = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(inputs)  # which it lets go of
        given = (_POINTER * len(handles))(*[_pointer_of(handle, None) for handle in handles])
        found = self._outputs()
        self._do(
            "Run", self._container, given, _SIZE(len(given)), found, _SIZE(len(found)), None, None
        )
        capsules = [_capsule_of(pointer, None, None) for pointer in found]
        return torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(capsules)

    def _do(self, what: str, *args: object) -> None:
        if getattr(self._code, f"AOTInductorModelContainer{what}")(*args):
            why = ctypes.c_char_p()
            self._code.AOTInductorGetLastError(ctypes.byref(why))
            raise RuntimeError(f"{what}: {(why.value or b'').decode(errors='replace')}")
