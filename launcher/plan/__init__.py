"""Plan: topology, batch, memory, DeepSpeed config and Slurm parameters become one frozen RunPlan (`build`)."""
