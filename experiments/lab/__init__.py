"""What `batching_lab.py` and its notebook are made of."""
