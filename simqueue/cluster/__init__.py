"""Several replicas behind a router, on one clock: see `simqueue.cluster.cluster` and `simqueue.cluster.simulate`."""
