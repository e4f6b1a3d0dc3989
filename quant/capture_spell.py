"""Operations of torch that are spelled out in others, by torch's own decompositions, before capture.

Contract: exported program in, exported program out, the same function. Only operations that are listed here are spelled
out, so that layers stay what they are.
"""

import torch
from torch._decomp import decomposition_table

SPELLED = frozenset(
    {"einsum", "glu", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "linalg_vector_norm", "cosine_similarity",
     "logsumexp", "baddbmm", "addbmm", "addmv", "addcmul", "addcdiv", "lerp", "bilinear", "im2col", "embedding_bag",
     "gru", "gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell", "rnn_tanh", "rnn_relu", "inner", "outer", "kron",
     "tensordot", "chain_matmul", "hstack", "vstack", "dstack", "tile", "rot90", "pad_sequence", "addr", "dot", "mv",
     "native_channel_shuffle", "true_divide", "multiply", "subtract", "concatenate", "concat", "softmin", "norm",
     "linalg_norm", "cdist", "special_expit", "special_erf", "absolute", "negative", "clip", "square_", "float_power"}
)  # fmt: skip
"""By name without overload."""

ROUNDS = 3
"""A decomposition may use operations that are listed too."""


def spelled_out(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return the program without the operations listed, as far as torch knows what they are made of."""
    known = dict(torch.export.default_decompositions().items()) if _listed(program) else {}
    for _ in range(ROUNDS):
        table = {op: rule for op in _listed(program) if (rule := known.get(op) or decomposition_table.get(op))}
        if not table:
            break
        program = program.run_decompositions(table)
    return program


def _listed(program: torch.export.ExportedProgram) -> set[torch._ops.OpOverload]:
    targets = {node.target for node in program.graph.nodes}
    return {op for op in targets if isinstance(op, torch._ops.OpOverload) and op._opname in SPELLED}
