"""What load generators measured: their result files, and how each defines its metrics. One tool a module."""
