"""Training: engine, loop, optimiser, schedule, metrics."""
