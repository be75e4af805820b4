"""The training loop, its optimiser, checkpoints, validation and log."""
