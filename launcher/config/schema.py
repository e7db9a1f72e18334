"""The types of every config key. Values live in `conf/`; this file holds no default.

Hydra composes against these types (see `register`); after validation they are what every later stage reads. They are
frozen: a plan cannot be changed behind its fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from launcher.config.adapter import AdapterConfig
from launcher.config.cluster import ClusterConfig
from launcher.config.evaluate import EvaluateConfig
from launcher.config.survival import GuardConfig, HealthConfig, RetryConfig, WatchdogConfig
from launcher.config.then import ThenConfig
from launcher.data.source import CleanConfig, Format, Overlong, TrainOn


class Init(Enum):
    """Where the weights come from before the first step."""

    pretrained = "pretrained"
    random = "random"


class Attention(Enum):
    """Attention kernels, in the names of transformers."""

    eager = "eager"
    sdpa = "sdpa"
    flash_attention_2 = "flash_attention_2"


class Dtype(Enum):
    """Compute precision. bf16 and fp16 keep fp32 master weights in the optimiser."""

    bf16 = "bf16"
    fp16 = "fp16"
    fp32 = "fp32"


class ScheduleName(Enum):
    """Shape of the learning rate over the run, after warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"
    wsd = "wsd"


class WandbMode(Enum):
    """Where W&B records go."""

    online = "online"
    offline = "offline"
    disabled = "disabled"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertsConfig:
    """A mixture of experts, which stands in most blocks in place of the gated MLP."""

    count: int
    """Experts of a block."""
    per_token: int
    """Those of them that a token goes through."""
    intermediate_size: int
    """Width of an expert's gated MLP."""
    shared_intermediate_size: int
    """Width of the one that every token goes through; 0 without one."""
    dense_layers: list[int]
    """Blocks, from 0, that have the gated MLP after all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeConfig:
    """Architecture numbers, for planning where the model's config.json is not at hand."""

    model_type: str
    """transformers' name of the family: llama, mistral, qwen3, gemma2, …"""
    hidden_size: int
    """Width of the residual stream."""
    num_hidden_layers: int
    """Transformer blocks."""
    num_attention_heads: int
    """Query heads."""
    num_key_value_heads: int
    """Key and value heads (grouped-query attention)."""
    head_dim: int
    """Width of one head."""
    intermediate_size: int
    """Width of the gated MLP."""
    vocab_size: int
    """Rows of the embedding."""
    tie_word_embeddings: bool
    """Whether embedding and output head share weights."""
    experts: ExpertsConfig | None
    """A mixture of experts; null where every block has the gated MLP."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The model and how it is held."""

    path: str
    """Directory with config.json, safetensors and tokenizer, or a Hugging Face hub id."""
    revision: str | None
    """Hub revision (commit, tag or branch)."""
    init: Init
    """Load weights, or initialise them from the config alone."""
    attention: Attention
    """Attention kernel."""
    activation_checkpointing: bool
    """Recompute each block in the backward pass instead of keeping its activations."""
    freeze: list[str]
    """Regular expressions; a weight in whose name one is found stays as it came."""
    shape: ShapeConfig | None
    """Architecture numbers for planning; null reads the model's config.json."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveConfig:
    """What is optimised."""

    name: str
    """Name of an objective: a module of launcher/objectives."""
    options: dict[str, Any]
    """What it takes beside that; what is left out is as the module says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Training and held-out data."""

    train: Any
    """A path or pattern, a list of these, or entries {path or hub, format, columns, limit, weight, …}."""
    eval: Any
    """Held-out data, written like `train`, or several sets of it, {NAME: data}; null trains without evaluation."""
    slices: list[str]
    """Fields of held-out rows, or tags of their sources, by whose values losses are told apart as well."""
    format: Format
    """Row format of sources that name none of their own; `auto` detects it."""
    train_on: TrainOn
    """Which tokens of a conversation carry loss."""
    seq_len: int
    """Longest row, in tokens."""
    packing: bool
    """Put several rows into one sequence of `seq_len`; none of them sees another."""
    overlong: Overlong
    """What happens to a row longer than `seq_len`."""
    chat_template: str | None
    """Jinja file; null uses the tokenizer's own template."""
    clean: CleanConfig
    """What rows must be like."""
    cache_dir: str | None
    """Where tokenised data is kept; null is `.data` in the runs root."""
    workers: int
    """Processes that tokenise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Length, batch and seed of the run."""

    max_steps: int | None
    """Optimiser steps; null follows from `epochs`."""
    epochs: float | None
    """Passes over the training rows; null follows from `max_steps`."""
    global_batch_size: int
    """Sequences per optimiser step, over all GPUs."""
    micro_batch_size: Any
    """Sequences per GPU and forward pass: `auto` or a number."""
    seed: int
    """Seeds initial weights, data order and dropout."""
    deterministic: bool
    """Only kernels that give the same bits every time, which a bitwise equal resume needs on GPUs; false is faster."""
    eval_every: int | None
    """Steps between evaluations; null evaluates at the start and the end only."""
    patience: int | None
    """Stop after so many evaluations without a better `checkpoint.best_by`; null never stops early."""
    stop_at: int | None
    """End with a checkpoint after this step; the schedule still spans the whole run, and a resume goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupConfig:
    """Parameters that are trained otherwise than the rest."""

    match: str
    """Regular expression, found anywhere in a parameter's name."""
    lr_scale: float
    """Their share of the learning rate."""
    weight_decay: float | None
    """Their decay; null leaves it as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """The optimiser."""

    name: str
    """`adamw`, `lion`, `muon`, `adafactor` or `adam8bit`."""
    lr: float
    """Peak learning rate."""
    weight_decay: float
    """Decoupled decay, on matrices only (not on norms and biases)."""
    betas: list[float]
    """Decay rates of the two moments."""
    momentum: float
    """Muon's, of hidden matrices; no other optimiser has it."""
    eps: float
    """Added to the denominator."""
    layer_decay: float | None
    """Each layer's share of the rate of the one above it, from the head down to the embedding; null is 1."""
    groups: list[GroupConfig]
    """Parameters by name; where several match, shares multiply and the last decay counts."""
    pull_to_start: float
    """Decoupled pull of every trained parameter towards its value at the start: each step takes `lr` times this of the
    way back (L2-SP, Li et al., arXiv:1802.01483); 0 is none."""
    ema_decay: float | None
    """What a moving average of the weights keeps of itself at each step; null keeps no average."""
    grad_clip: float | None
    """Largest global gradient norm; null does not clip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Learning rate over steps, as a share of the peak."""

    name: ScheduleName
    """Shape after warm-up."""
    warmup_ratio: float
    """Share of all steps that warm up linearly."""
    min_ratio: float
    """Share of the peak left at the end."""
    decay_ratio: float
    """Share of all steps that `wsd` decays over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeroConfig:
    """DeepSpeed ZeRO."""

    auto: bool
    """Choose stage and offloading: the least that fits, since each costs speed. The plan holds what was chosen."""
    stage: int
    """0 none, 1 optimiser states, 2 and gradients, 3 and parameters are partitioned."""
    offload_optimizer: bool
    """Keep optimiser states in host memory."""
    offload_param: bool
    """Keep parameters in host memory (stage 3)."""
    overlap_comm: bool
    """Overlap gradient reduction with the backward pass."""
    bucket_elements: int
    """Elements per reduction bucket."""
    prefetch_elements: int
    """Elements fetched ahead (stage 3)."""
    persistence_elements: int
    """Parameters smaller than this stay on every GPU (stage 3)."""
    max_live_elements: int
    """Most gathered elements at a time (stage 3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionConfig:
    """Number format."""

    dtype: Dtype
    """Of the forward and backward pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """When checkpoints are written and which stay."""

    every_steps: int | None
    """Steps between checkpoints; null writes one at the end and when stopped."""
    asynchronous: bool
    """Write while training goes on, from a copy in host memory as large as a rank's states; false waits."""
    keep_last: int | None
    """Checkpoints that stay, newest first; null keeps all."""
    keep_every: int | None
    """Checkpoints at multiples of so many steps stay as well."""
    keep_best: int | None
    """So many checkpoints with the best held-out results stay as well …"""
    best_by: str
    """… by this measure of metrics.jsonl: `eval_loss`, `eval_accuracy`, `eval_NAME_loss` …"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingConfig:
    """Weights & Biases; metrics.jsonl is written in any case."""

    wandb: WandbMode
    """Where W&B records go."""
    project: str
    """W&B project."""
    entity: str | None
    """W&B team or user; null is the account's default."""
    tags: list[str]
    """W&B tags."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepSpeedConfig:
    """The one untyped way into DeepSpeed's own config."""

    extra: dict[str, Any]
    """Merged into the DeepSpeed config; keys that other settings decide are refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Everything a user can set."""

    runs_root: str
    """Folder that holds the run directories."""
    model: ModelConfig
    adapter: AdapterConfig
    objective: ObjectiveConfig
    data: DataConfig
    train: TrainConfig
    optim: OptimConfig
    schedule: ScheduleConfig
    zero: ZeroConfig
    precision: PrecisionConfig
    checkpoint: CheckpointConfig
    tracking: TrackingConfig
    cluster: ClusterConfig
    retry: RetryConfig
    watchdog: WatchdogConfig
    guard: GuardConfig
    health: HealthConfig
    evaluate: EvaluateConfig
    then: ThenConfig
    deepspeed: DeepSpeedConfig
