"""`Disaggregation`: replicas that prefill, replicas that decode, and the way between them."""

from __future__ import annotations

import msgspec

from simqueue.cluster.cluster import Cluster
from simqueue.cluster.transfer import Transfer
from simqueue.errors import ConfigError
from simqueue.order import Edf, LeastLaxity
from simqueue.replica import is_paged


class Disaggregation(msgspec.Struct, frozen=True):
    """Prefill and decode on replicas of their own, as in DistServe (Zhong et al., OSDI 2024) and Splitwise (Patel et
    al., ISCA 2024): hand it to `simulate_disaggregated` with a workload.

    A replica of ``prefill`` computes the prompt and the first token. Its key/value cache goes over the link of that
    replica, while which the memory there is free already; then the router of ``decode`` chooses who makes all other
    tokens. A decoding replica needs no step for a request that comes to a seat: it decodes at once. If it preempts by
    recomputation, it computes the prompt anew itself. A request of one token needs no decoding.

    Left out: that the memory where the prompt was computed is held until the cache has gone (with DistServe until
    somebody who decodes pulls it), layers that go ahead of others (Splitwise), links that are shared, and that those
    who decode could hold up the others.

    Attributes:
        prefill: the replicas that prefill, and their router.
        decode: the replicas that decode, and their router.
        transfer: the links.
    """

    prefill: Cluster
    decode: Cluster
    transfer: Transfer

    def __post_init__(self) -> None:
        if len({self.transfer.token_s(system) for system in self.prefill.distinct}) > 1:
            raise ConfigError(
                "prefill: its replicas have tokens of different sizes in their caches: let all serve the same model"
            )
        for pool in (self.prefill, self.decode):
            if pool.failures:
                raise ConfigError("failures: a pool of a disaggregated cluster cannot fail yet: leave them out")
        for system in self.decode.distinct:
            if not (is_paged(system) and getattr(system.policy, "mixes", True)):
                raise ConfigError(
                    "decode: its requests come with their caches, and its policy cannot let them decode at once: take "
                    "one that counts blocks and lets others decode while it prefills (vllm, sarathi, orca, "
                    "tensorrt-llm, fastserve, srpt)"
                )
            if isinstance(system.order, Edf | LeastLaxity):
                raise ConfigError(
                    f"decode: its order {system.order.__struct_config__.tag} goes by when first tokens are due, which "
                    "are there already: take another order there"
                )
            if system.admission:
                raise ConfigError("decode: admission stands before the replicas that prefill: give it there")
