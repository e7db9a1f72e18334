"""Errors as torch, NCCL, CUDA and the kernel word them, and the class each belongs to."""

from __future__ import annotations

import errno

import pytest

from launcher.errors import NumberError, Problem, StorageError, UserError
from launcher.failures import FailureClass
from launcher.node.causes import failure_of

PROBLEM = Problem(where="here", message="wrong")


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UserError(PROBLEM), FailureClass.user_error),
        (StorageError(PROBLEM), FailureClass.disk_full),
        (NumberError(PROBLEM), FailureClass.not_a_number),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), FailureClass.out_of_memory),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), FailureClass.out_of_memory),
        (MemoryError(), FailureClass.out_of_host_memory),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), FailureClass.out_of_host_memory),
        (OSError(errno.ENOSPC, "No space left on device"), FailureClass.disk_full),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), FailureClass.disk_full),
        (OSError(errno.ESTALE, "Stale file handle"), FailureClass.communication),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), FailureClass.gpu_error),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), FailureClass.gpu_error),
        (RuntimeError("CUDA error: device-side assert triggered"), FailureClass.bug),
        (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp, unhandled system error"), FailureClass.communication),
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"), FailureClass.communication),
        (ConnectionResetError("reset"), FailureClass.communication),
        (ValueError("shapes do not match"), FailureClass.bug),
        (FileNotFoundError(errno.ENOENT, "gone"), FailureClass.bug),
    ],
)
def test_an_error_has_its_class(error: BaseException, expected: FailureClass) -> None:
    assert failure_of(error) is expected
