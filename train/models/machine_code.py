"""Libraries made by AOTInductor, called by the C interface that each of them has.

That interface is torch's torch/csrc/inductor/aoti_runtime/interface.h. torch's own loader for
Python keeps the interpreter's lock for as long as the code runs (pytorch/pytorch#197516), so that
a replica would do nothing else meanwhile; a call by ctypes lets go of it. The loader also leaves
what it unpacks behind when its process is killed.
"""

from __future__ import annotations

import ctypes
import tempfile
import threading
import weakref
import zipfile
from pathlib import Path

import torch
from torch import Tensor

_SIZE, _POINTER = ctypes.c_size_t, ctypes.c_void_p
# Prototypes of its own: others may set other ones on ctypes.pythonapi's functions.
_pointer_of = ctypes.PYFUNCTYPE(_POINTER, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_capsule_of = ctypes.PYFUNCTYPE(ctypes.py_object, _POINTER, ctypes.c_char_p, _POINTER)(
    ("PyCapsule_New", ctypes.pythonapi)
)


class Library:
    """One library of a package, which may be called from any number of threads; one runs at once.

    It calls no operator that has no C interface. Its code stays mapped for as long as the
    process runs (2 MB; C++'s unique symbols forbid to unload it), what it allocated does not.
    """

    def __init__(self, package: Path, name: str) -> None:
        """Load it; nothing of it stays on disk.

        Args:
            package: as `torch._inductor.package.package_aoti` writes it.
            name: of one of its models.

        Raises:
            OSError, zipfile.BadZipFile: no package, or a library that this machine cannot load.
            RuntimeError: it has no model of that name, not just one library of it, one that is not
                AOTInductor's, or one that calls other operators; or the library itself says why.
        """
        with zipfile.ZipFile(package) as archive, tempfile.TemporaryDirectory() as folder:
            inside = f"/data/aotinductor/{name}/"
            names = [n for n in archive.namelist() if inside in n]
            found = [n for n in names if n.endswith(".so")]
            if len(found) != 1:
                raise RuntimeError(f"{len(found)} libraries where there is to be one")
            if any(n.endswith(".json") and not n.endswith("_metadata.json") for n in names):
                raise RuntimeError("it calls operators that have no C interface")
            file = Path(folder) / "library.so"
            file.write_bytes(archive.read(found[0]))
            self._code = ctypes.CDLL(str(file))  # mapped from now on, whatever becomes of the file
        if not hasattr(self._code, "AOTInductorModelContainerRun"):
            raise RuntimeError("the library is none of AOTInductor's")
        # Who waits inside the library for one that fails would wait for good.
        self._running = threading.Lock()
        self._container = _POINTER()
        self._do("CreateWithDevice", ctypes.byref(self._container), _SIZE(1), b"cpu", None)
        self._num_inputs = self._number("GetNumInputs")
        self._outputs = _POINTER * self._number("GetNumOutputs")
        # Not when the process ends, where a thread may still be running it.
        delete = self._code.AOTInductorModelContainerDelete
        weakref.finalize(self, delete, self._container).atexit = False

    def __call__(self, inputs: list[Tensor]) -> list[Tensor]:
        """Run it on contiguous tensors of the shapes and dtypes that it was made for.

        Raises:
            RuntimeError: other tensors than it takes; the library says which.
        """
        if len(inputs) != self._num_inputs:  # of which the library would end the process
            raise RuntimeError(f"it takes {self._num_inputs} tensors, got {len(inputs)}")
        handles = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(inputs)  # which it lets go of
        given = (_POINTER * len(handles))(*[_pointer_of(handle, None) for handle in handles])
        found = self._outputs()
        sizes = _SIZE(len(given)), _SIZE(len(found))
        with self._running:
            self._do("Run", self._container, given, sizes[0], found, sizes[1], None, None)
        capsules = [_capsule_of(pointer, None, None) for pointer in found]
        return torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(capsules)

    def _number(self, what: str) -> int:
        number = _SIZE()
        self._do(what, self._container, ctypes.byref(number))
        return number.value

    def _do(self, what: str, *args: object) -> None:
        if getattr(self._code, f"AOTInductorModelContainer{what}")(*args):
            why = ctypes.c_char_p()
            self._code.AOTInductorGetLastError(ctypes.byref(why))
            raise RuntimeError(f"{what}: {(why.value or b'').decode(errors='replace')}")
