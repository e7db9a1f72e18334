"""An exception becomes a class of failure, in the rank that met it. Knows torch's errors by name only."""

from __future__ import annotations

import errno
import re

from launcher.errors import LauncherError
from launcher.failures import FailureClass

FULL = (errno.ENOSPC, errno.EDQUOT)
UNREACHABLE = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE)
"""What a shared file system, or a peer, answers when it has gone away."""

PATTERNS = (
    (FailureClass.out_of_memory, r"(CUDA|HIP) out of memory|CUBLAS_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation"),
    (FailureClass.out_of_host_memory, r"can't allocate memory|Cannot allocate memory|DefaultCPUAllocator"),
    (FailureClass.disk_full, r"No space left on device|Disk quota exceeded"),
    (
        FailureClass.communication,
        r"NCCL|nccl|gloo|Connection (reset|closed|refused)|Broken pipe|Socket Timeout|[Tt]imed out"
        r"|failed to connect|connectFullMesh",
    ),
    (
        FailureClass.gpu_error,
        r"uncorrectable|CUDA error: (?!device-side assert)|Xid|cuDNN error|CUBLAS_STATUS_(EXECUTION|INTERNAL)|HIP error"
        r"|No CUDA GPUs are available|CUDA driver",
    ),
)
"""What torch's errors say, the surest first: a NCCL error may speak of CUDA, and an OOM of both."""
NETWORK_ERRORS = {"DistBackendError", "DistNetworkError", "DistStoreError"}


def failure_of(error: BaseException) -> FailureClass:
    """The class that the error belongs to; `bug` when nothing else explains it."""
    if isinstance(error, LauncherError):
        return error.failure or FailureClass.user_error
    if isinstance(error, MemoryError):
        return FailureClass.out_of_host_memory
    if isinstance(error, OSError) and error.errno in FULL:
        return FailureClass.disk_full
    name = type(error).__name__
    if name == "OutOfMemoryError":
        return FailureClass.out_of_memory
    text = str(error)
    for failure, pattern in PATTERNS:
        if re.search(pattern, text):
            return failure
    if name in NETWORK_ERRORS or isinstance(error, ConnectionError | TimeoutError):
        return FailureClass.communication
    if isinstance(error, OSError) and error.errno in UNREACHABLE:
        return FailureClass.communication
    return FailureClass.bug
