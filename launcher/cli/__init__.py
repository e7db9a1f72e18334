"""The `launcher` command: one module a verb, each of which parses, calls and prints. Nothing else."""
