"""The names of `taut.compiler`, for who works with graphs and needs no tensors.

Verbs end in `_graph`; each stands in its own file under the name without that ending, but for those
that have it there, too.
"""

from __future__ import annotations

from . import ops
from .autodiff import backward_graph, cotangents, gradient_graph
from .aval import Aval, symbol
from .errors import CheckFailed, CompileError, IRError, ParseError, TautError
from .evaluate import evaluate as evaluate_graph
from .graph_builder import GraphBuilder
from .ir import Check, Graph, Loc, Node, Value
from .passes.rewrite import Rules, rebuild, rewrite
from .pipeline import PASSES, Pass, find_pass, run_passes
from .schedule import FusionPlan, Program, Scheduled
from .schedule import schedule_stages as schedule_graph
from .target import Target
from .text import canonical_text, graph_hash, parse_graph, print_graph
from .text.difference import difference
from .verify import verify as verify_graph

__all__ = [
    "PASSES",
    "Aval",
    "Check",
    "CheckFailed",
    "CompileError",
    "FusionPlan",
    "Graph",
    "GraphBuilder",
    "IRError",
    "Loc",
    "Node",
    "ParseError",
    "Pass",
    "Program",
    "Rules",
    "Scheduled",
    "Target",
    "TautError",
    "Value",
    "backward_graph",
    "canonical_text",
    "cotangents",
    "difference",
    "evaluate_graph",
    "find_pass",
    "gradient_graph",
    "graph_hash",
    "ops",
    "parse_graph",
    "print_graph",
    "rebuild",
    "rewrite",
    "run_passes",
    "schedule_graph",
    "symbol",
    "verify_graph",
]
