"""Measuring what the steps of a language model cost, and fitting the service-time curve."""
