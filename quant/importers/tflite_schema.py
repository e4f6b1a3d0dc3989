"""What TensorFlow Lite's schema numbers mean: tensor types, operators, and the options of those that are read.

Numbers follow tensorflow/compiler/mlir/lite/schema/schema.fbs (schema version 3).
"""

from typing import Any

DTYPES = {0: "float32", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float64"}

CUSTOM = 32
"""Built-in code of an operator that the file names itself."""

Fields = dict[str, tuple[int, str, Any]]

_WINDOW: Fields = {"padding": (0, "i8", 0), "stride_w": (1, "i32", 0), "stride_h": (2, "i32", 0)}
_ACTIVATION: Fields = {"activation": (0, "i8", 0)}
_POOL: Fields = _WINDOW | {"filter_w": (3, "i32", 0), "filter_h": (4, "i32", 0), "activation": (5, "i8", 0)}
_CONV: Fields = _WINDOW | {"activation": (3, "i8", 0), "dilation_w": (4, "i32", 1), "dilation_h": (5, "i32", 1)}
_DEPTHWISE: Fields = _WINDOW | {"activation": (4, "i8", 0), "dilation_w": (5, "i32", 1), "dilation_h": (6, "i32", 1)}
_FULLY: Fields = _ACTIVATION | {"weights_format": (1, "i8", 0), "keep_num_dims": (2, "bool", False)}
_KEEP: Fields = {"keep_dims": (0, "bool", False)}
_MASKS: Fields = {name: (i, "i32", 0) for i, name in enumerate(("begin", "end", "ellipsis", "new_axis", "shrink"))}

OPERATORS: dict[int, tuple[str, int, Fields]] = {
    0: ("add", 11, _ACTIVATION),
    1: ("average_pool_2d", 5, _POOL),
    2: ("concatenation", 10, {"axis": (0, "i32", 0), "activation": (1, "i8", 0)}),
    3: ("conv_2d", 1, _CONV),
    4: ("depthwise_conv_2d", 2, _DEPTHWISE),
    5: ("depth_to_space", 94, {"block": (0, "i32", 0)}),
    6: ("dequantize", 0, {}),
    9: ("fully_connected", 8, _FULLY),
    14: ("logistic", 0, {}),
    17: ("max_pool_2d", 5, _POOL),
    18: ("mul", 21, _ACTIVATION),
    19: ("relu", 0, {}),
    20: ("relu_n1_to_1", 0, {}),
    21: ("relu6", 0, {}),
    22: ("reshape", 0, {}),
    23: ("resize_bilinear", 15, {"align_corners": (2, "bool", False), "half_pixel": (3, "bool", False)}),
    25: ("softmax", 9, {"beta": (0, "f32", 0.0)}),
    26: ("space_to_depth", 19, {"block": (0, "i32", 0)}),
    28: ("tanh", 0, {}),
    34: ("pad", 0, {}),
    36: ("gather", 23, {"axis": (0, "i32", 0), "batch_dims": (1, "i32", 0)}),
    39: ("transpose", 0, {}),
    40: ("mean", 27, _KEEP),
    41: ("sub", 28, _ACTIVATION),
    43: ("squeeze", 0, {}),
    45: ("strided_slice", 32, _MASKS | {"offset": (5, "bool", False)}),
    47: ("exp", 0, {}),
    49: ("split", 35, {"count": (0, "i32", 0)}),
    53: ("cast", 0, {}),
    54: ("prelu", 0, {}),
    55: ("maximum", 0, {}),
    57: ("minimum", 0, {}),
    59: ("neg", 0, {}),
    60: ("padv2", 0, {}),
    65: ("slice", 0, {}),
    67: ("transpose_conv", 49, _WINDOW | {"activation": (3, "i8", 0)}),
    69: ("tile", 0, {}),
    70: ("expand_dims", 0, {}),
    77: ("shape", 0, {}),
    82: ("reduce_max", 27, _KEEP),
    83: ("pack", 59, {"count": (0, "i32", 0), "axis": (1, "i32", 0)}),
    88: ("unpack", 64, {"count": (0, "i32", 0), "axis": (1, "i32", 0)}),
    89: ("reduce_min", 27, _KEEP),
    97: ("resize_nearest_neighbor", 74, {"align_corners": (0, "bool", False), "half_pixel": (1, "bool", False)}),
    98: ("leaky_relu", 75, {"alpha": (0, "f32", 0.0)}),
    100: ("mirror_pad", 77, {"mode": (0, "i8", 0)}),
    101: ("abs", 0, {}),
    102: ("split_v", 79, {"count": (0, "i32", 0)}),
    105: ("reverse_v2", 0, {}),
    111: ("elu", 0, {}),
    114: ("quantize", 0, {}),
    117: ("hard_swish", 0, {}),
    126: ("batch_matmul", 101, {"adj_x": (0, "bool", False), "adj_y": (1, "bool", False)}),
    150: ("gelu", 116, {"approximate": (0, "bool", False)}),
    152: ("relu_0_to_1", 0, {}),
}
"""By built-in code: name, kind of its table of options (0: none is needed), and the options' (field, type, default)."""

_NAMES = (
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "DEQUANTIZE",
    "EMBEDDING_LOOKUP", "FLOOR", "FULLY_CONNECTED", "HASHTABLE_LOOKUP", "L2_NORMALIZATION", "L2_POOL_2D",
    "LOCAL_RESPONSE_NORMALIZATION", "LOGISTIC", "LSH_PROJECTION", "LSTM", "MAX_POOL_2D", "MUL", "RELU", "RELU_N1_TO_1",
    "RELU6", "RESHAPE", "RESIZE_BILINEAR", "RNN", "SOFTMAX", "SPACE_TO_DEPTH", "SVDF", "TANH", "CONCAT_EMBEDDINGS",
    "SKIP_GRAM", "CALL", "CUSTOM", "EMBEDDING_LOOKUP_SPARSE", "PAD", "UNIDIRECTIONAL_SEQUENCE_RNN", "GATHER",
    "BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND", "TRANSPOSE", "MEAN", "SUB", "DIV", "SQUEEZE",
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "STRIDED_SLICE", "BIDIRECTIONAL_SEQUENCE_RNN", "EXP", "TOPK_V2", "SPLIT",
    "LOG_SOFTMAX", "DELEGATE", "BIDIRECTIONAL_SEQUENCE_LSTM", "CAST", "PRELU", "MAXIMUM", "ARG_MAX", "MINIMUM", "LESS",
    "NEG", "PADV2", "GREATER", "GREATER_EQUAL", "LESS_EQUAL", "SELECT", "SLICE", "SIN", "TRANSPOSE_CONV",
    "SPARSE_TO_DENSE", "TILE", "EXPAND_DIMS", "EQUAL", "NOT_EQUAL", "LOG", "SUM", "SQRT", "RSQRT", "SHAPE", "POW",
    "ARG_MIN", "FAKE_QUANT", "REDUCE_PROD", "REDUCE_MAX", "PACK", "LOGICAL_OR", "ONE_HOT", "LOGICAL_AND", "LOGICAL_NOT",
    "UNPACK", "REDUCE_MIN", "FLOOR_DIV", "REDUCE_ANY", "SQUARE", "ZEROS_LIKE", "FILL", "FLOOR_MOD", "RANGE",
    "RESIZE_NEAREST_NEIGHBOR", "LEAKY_RELU", "SQUARED_DIFFERENCE", "MIRROR_PAD", "ABS", "SPLIT_V", "UNIQUE", "CEIL",
    "REVERSE_V2", "ADD_N", "GATHER_ND", "COS", "WHERE", "RANK", "ELU", "REVERSE_SEQUENCE", "MATRIX_DIAG", "QUANTIZE",
    "MATRIX_SET_DIAG", "ROUND", "HARD_SWISH", "IF", "WHILE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5",
    "SCATTER_ND", "SELECT_V2", "DENSIFY", "SEGMENT_SUM", "BATCH_MATMUL", "PLACEHOLDER", "CUMSUM", "CALL_ONCE",
    "BROADCAST_TO", "RFFT2D", "CONV_3D", "IMAG", "REAL", "COMPLEX_ABS", "HASHTABLE", "HASHTABLE_FIND",
    "HASHTABLE_IMPORT", "HASHTABLE_SIZE", "REDUCE_ALL", "CONV_3D_TRANSPOSE", "VAR_HANDLE", "READ_VARIABLE",
    "ASSIGN_VARIABLE", "BROADCAST_ARGS", "RANDOM_STANDARD_NORMAL", "BUCKETIZE", "RANDOM_UNIFORM", "MULTINOMIAL", "GELU",
    "DYNAMIC_UPDATE_SLICE", "RELU_0_TO_1",
)  # fmt: skip


def operator_name(code: int) -> str:
    """Return what the schema calls a built-in operator, or its number where this table ends before it."""
    return _NAMES[code] if 0 <= code < len(_NAMES) else f"built-in operator number {code}"
