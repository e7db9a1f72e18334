"""One file per objective, a Protocol they share, and a registry by name."""
