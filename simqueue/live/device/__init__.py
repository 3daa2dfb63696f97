"""Executors that own a device: the only place that imports torch and transformers."""
