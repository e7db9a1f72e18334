"""A distributed training launcher: Hydra configs, Slurm jobs, DeepSpeed ZeRO training that resumes bit for bit."""

__version__ = "0.1.0"
