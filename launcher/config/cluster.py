"""The types of the config keys that say where a run's ranks run. Values live in `conf/`, like those of `schema`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""What `network_interface` sets."""
PROXY_VARIABLES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
"""What `proxy` sets."""


class ClusterKind(Enum):
    """How ranks are started."""

    local = "local"
    slurm = "slurm"


class Accelerator(Enum):
    """What the ranks compute on; `auto` takes CUDA when each rank has a device of its own, else the CPU."""

    auto = "auto"
    cuda = "cuda"
    cpu = "cpu"


class GpuRequest(Enum):
    """How GPUs are asked for."""

    gres = "gres"
    """`--gres=gpu:TYPE:N`."""
    gpus_per_node = "gpus_per_node"
    """`--gpus-per-node=TYPE:N`."""
    none = "none"
    """Not at all: whoever gets a node gets its GPUs."""


class Runtime(Enum):
    """What starts a container."""

    pyxis = "pyxis"
    """NVIDIA's plugin of srun, over enroot."""
    apptainer = "apptainer"
    singularity = "singularity"


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftwareConfig:
    """The environment that ranks run in; with nothing set, that of the interpreter which submits."""

    modules: list[str]
    """Environment modules to load first, in order."""
    venv: str | None
    """Folder of a virtual environment."""
    conda: str | None
    """Name or folder of a conda environment; `conda` must be found by the job's shell."""
    image: str | None
    """Container image: an absolute path, or a reference that the runtime understands."""
    runtime: Runtime
    """What starts the image."""
    mounts: list[str]
    """Folders to show inside besides those a run needs: PATH, or SOURCE:TARGET, with :OPTIONS if need be."""
    python: str | None
    """Interpreter of the ranks; null is that of `venv` or `conda`, `python3` in an image, else the one that submits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataJobConfig:
    """The job without GPUs that tokenises before training, where that has not been done yet."""

    enabled: bool
    """Whether there is one; else the training job tokenises while its GPUs wait."""
    partition: str | None
    """Slurm partition; null is that of training."""
    cpus: int
    """CPU cores, and processes that tokenise."""
    mem_gb: int
    """Host memory, GB."""
    time_min: int
    """Time limit, minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportJobConfig:
    """The job without GPUs that exports what was trained, where the run asks for it (`then.export`)."""

    partition: str | None
    """Slurm partition; null is that of training."""
    cpus: int
    """CPU cores."""
    mem_gb: int | None
    """Host memory, GB; null is what the plan estimates."""
    time_min: int
    """Time limit, minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalJobConfig:
    """The job that runs benchmarks: one process on one node."""

    partition: str | None
    """Slurm partition; null is that of training."""
    gpus: int
    """GPUs that the model is spread over."""
    cpus: int
    """CPU cores."""
    mem_gb: int | None
    """Host memory, GB; null leaves it to Slurm."""
    time_min: int
    """Time limit, minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Where the ranks run; one profile a cluster."""

    kind: ClusterKind
    """How ranks are started."""
    nodes: int
    """Machines."""
    gpus_per_node: int
    """Ranks per machine, one GPU each."""
    accelerator: Accelerator
    """What a rank computes on."""
    gpu_memory_gb: float
    """Memory of one GPU, GiB; what the plan must fit in."""
    gpu_type: str | None
    """GPU type in requests (`h100`); null asks for any."""
    gpu_request: GpuRequest
    """How GPUs are asked for."""
    cpus_per_gpu: int | None
    """CPU cores per rank; null leaves it to Slurm."""
    mem_gb_per_node: int | None
    """Host memory per node, GB; null leaves it to Slurm; 0 takes all of it."""
    mem_gb_per_gpu: int | None
    """The same for each GPU, in place of the figure per node."""
    partition: str | None
    """Slurm partition."""
    account: str | None
    """Slurm account."""
    qos: str | None
    """Slurm quality of service."""
    wckey: str | None
    """Workload key, where the site books by one."""
    constraint: str | None
    """Node features."""
    reservation: str | None
    """Slurm reservation."""
    exclude: str | None
    """Nodes to avoid, in Slurm's notation."""
    exclusive: bool
    """Take whole nodes."""
    time_min: int
    """Time limit, minutes."""
    max_time_min: int | None
    """The longest limit that the partition allows, minutes."""
    max_nodes: int | None
    """The most nodes that the partition gives to one job."""
    signal_lead_s: Any
    """Seconds before the time limit at which the job is told to stop; `auto` plans for a step and a checkpoint."""
    peak_tflops: float | None
    """TFLOP/s of one GPU in the run's precision; null is the data sheet's, by `gpu_type`. For planning, as are all the
    following."""
    efficiency: float
    """Share of that peak that a GPU reaches while it computes."""
    gpu_link_gb_s: float
    """GB/s a GPU that collectives reach within a node."""
    interconnect_gb_s: float
    """The same between nodes."""
    mttf_hours_per_gpu: float | None
    """GPU-hours between failures; null plans for none."""
    gpu_hour_price: float | None
    """Of a GPU-hour, in any currency; null tells no price."""
    environment: dict[str, str]
    """Variables set for the ranks (NCCL_IB_HCA and its like)."""
    network_interface: str | None
    """Interface over which the nodes talk (`ib0`, or several with commas), for NCCL and gloo."""
    proxy: str | None
    """Proxy to the world outside, as a URL without a password."""
    no_proxy: str
    """Hosts that the proxy is not for, with commas."""
    scratch_dir: str | None
    """Shared folder for what can be made again: tokenised data lies below it unless data.cache_dir says otherwise."""
    local_dir: str | None
    """Folder on each node's own disk, for temporary files and compiled kernels; %j in it is the job's id."""
    prologue: str | None
    """File of shell commands that a job's script reads first, on its first node. It is frozen with the run."""
    software: SoftwareConfig
    """The environment that ranks run in."""
    data_job: DataJobConfig
    """The job that tokenises."""
    export_job: ExportJobConfig
    """The job that exports."""
    eval_job: EvalJobConfig
    """The job that runs benchmarks."""

    @property
    def node_memory_gb(self) -> int | None:
        """Host memory to ask of each node, GB."""
        return self.mem_gb_per_node if self.mem_gb_per_gpu is None else self.mem_gb_per_gpu * self.gpus_per_node

    @property
    def variables(self) -> dict[str, str]:
        """All variables that the profile sets, by name."""
        found = dict(self.environment)
        if self.network_interface is not None:
            found |= dict.fromkeys(INTERFACE_VARIABLES, self.network_interface)
        if self.proxy is not None:
            found |= dict.fromkeys(PROXY_VARIABLES, self.proxy)
            found |= dict.fromkeys(("no_proxy", "NO_PROXY"), self.no_proxy)
        return dict(sorted(found.items()))
