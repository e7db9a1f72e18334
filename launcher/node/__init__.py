"""What happens on a node around training: prologue, ranks, stop signals, epilogue."""
