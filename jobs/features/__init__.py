"""What can be computed from assets: one module a modality, pure functions from bytes to columns."""
