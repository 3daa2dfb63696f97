"""simqueue: what latency an LLM service will have, before it is deployed."""
