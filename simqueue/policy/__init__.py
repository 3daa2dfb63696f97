"""Batching policies, one a file."""

from simqueue.policy.base import BatchingPolicy, Decider, PagedView, View
from simqueue.policy.bentoml import BentoML
from simqueue.policy.clipper import Clipper
from simqueue.policy.continuous import Continuous
from simqueue.policy.dynamic import Dynamic
from simqueue.policy.fastertransformer import FasterTransformer
from simqueue.policy.fastserve import FastServe
from simqueue.policy.litserve import LitServe
from simqueue.policy.mosec import Mosec
from simqueue.policy.none import NoBatching
from simqueue.policy.orca import Orca
from simqueue.policy.ray_serve import RayServe
from simqueue.policy.sarathi import Sarathi
from simqueue.policy.sglang import Sglang
from simqueue.policy.srpt import Srpt
from simqueue.policy.static import Static
from simqueue.policy.tensorrt_llm import TensorrtLlm
from simqueue.policy.tgi import Tgi
from simqueue.policy.triton import Triton
from simqueue.policy.vllm import Vllm

SHIPPED = (
    *(NoBatching, Static, Dynamic, Continuous),
    *(FasterTransformer, Triton, Mosec, LitServe, RayServe, BentoML, Clipper),
    *(Vllm, Sarathi, Orca, Sglang, Tgi, TensorrtLlm),
    *(FastServe, Srpt),
)

__all__ = [
    "SHIPPED",
    "BatchingPolicy",
    "BentoML",
    "Clipper",
    "Continuous",
    "Decider",
    "Dynamic",
    "FastServe",
    "FasterTransformer",
    "LitServe",
    "Mosec",
    "NoBatching",
    "Orca",
    "PagedView",
    "RayServe",
    "Sarathi",
    "Sglang",
    "Srpt",
    "Static",
    "TensorrtLlm",
    "Tgi",
    "Triton",
    "View",
    "Vllm",
]
