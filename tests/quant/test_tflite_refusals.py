"""What the operators beyond MobileNet refuse: absurd options, kernels' limits, and all unknown operators at once."""

import re

import numpy as np
import pytest
from tflite_files import O, T, tflite

from quant.importers.tflite import import_tflite_bytes

GRID = ("int8", 0.1, 3)
MAP = T((1, 4, 4, 6), *GRID)


def ints(*values: int) -> T:
    return T((len(values),), "int32", None, 0, values)


def refusal(tensors: list[T], op: O, outputs: tuple[int, ...] | None = None, kernels: str = "xnnpack") -> str:
    ends = [i for i, t in enumerate(tensors) if t.data is None and i not in op.outputs]
    data = tflite(tensors, [op], ends, list(outputs or op.outputs))
    with pytest.raises(ValueError, match=r"^net\.tflite|^Program") as error:
        import_tflite_bytes(data, "net.tflite", kernels)
    assert "\n" not in str(error.value)
    assert f"operator 0 ({op.kind})" in str(error.value)
    return str(error.value)


SLICED = {"begin": 0, "end": 0, "ellipsis": 0, "new_axis": 0, "shrink": 0}


@pytest.mark.parametrize(
    ("op", "lists", "message"),
    [
        (O("transpose", (0, 1), (2,)), [(0, 1, 2, 4)], "permutes axes"),
        (O("transpose", (0, 1), (2,)), [(1, 0, 2, 3)], "leave the batch in front"),
        (O("pack", (0,), (1,), {"axis": 9, "count": 1}), [], "axis 9"),
        (O("unpack", (0,), (1,), {"axis": 0, "count": 1}), [], "the batch"),
        (O("unpack", (0,), (1,), {"axis": -9, "count": 1}), [], "axis -9"),
        (O("split", (1, 0), (2,), {"count": 1}), [(7,)], "axis 7 of 4"),
        (O("split_v", (0, 1, 2), (3,), {"count": 1}), [(5,), (1,)], "must add up"),
        (O("split_v", (0, 1, 2), (3,), {"count": 1}), [(2, 2), (1,)], "2 sizes for 1 outputs"),
        (O("slice", (0, 1, 2), (3,)), [(0, 0, 0, -1), (1, 1, 1, 1)], "slices"),
        (O("slice", (0, 1, 2), (3,)), [(0, 2, 0, 0), (1, 2**31 - 1, 1, 1)], "the file is damaged"),
        (O("strided_slice", (0, 1, 2, 3), (4,), SLICED), [(0,) * 4, (1, 4, 4, 6), (1, 1, 0, 1)], "stride 0"),
        (O("strided_slice", (0, 1, 2, 3), (4,), SLICED), [(0,) * 5, (1,) * 5, (1,) * 5], "slices 5 axes"),
        (O("strided_slice", (0, 1, 2, 3), (4,), SLICED), [(0, 3), (1, 2), (1, 1)], "leaves nothing"),
        (O("strided_slice", (0, 1, 2, 3), (4,), SLICED | {"shrink": 2}), [(0, 9), (1, 10), (1, 1)], "keeps place 9"),
        (O("strided_slice", (0, 1, 2, 3), (4,), SLICED | {"shrink": 1}), [(0,), (1,), (1,)], "slices the batch"),
        (O("strided_slice", (0, 1, 2, 3), (4,), SLICED | {"ellipsis": 3}), [(0, 0), (1, 1), (1, 1)], "one ellipsis"),
        (O("strided_slice", (0, 1, 2, 3), (4,), SLICED), [(0,), (1, 1), (1,)], "as many are needed"),
        (O("gather", (0, 1), (2,), {"axis": 1}), [(0, 4)], "gathers places 0..4 of 4"),
        (O("gather", (0, 1), (2,), {"axis": 1}), [(-1,)], "gathers places -1"),
        (O("tile", (0, 1), (2,)), [(2, 1, 1, 1)], "1 for the batch"),
        (O("tile", (0, 1), (2,)), [(1, 0, 1, 1)], "repeats by"),
        (O("reverse_v2", (0, 1), (2,)), [(0,)], "the batch"),
        (O("mean", (0, 1), (2,), {"keep_dims": True}), [(4,)], "axis 4 of 4"),
        (O("reduce_max", (0, 1), (2,), {"keep_dims": True}), [(0, 1)], "the batch"),
        (O("resize_nearest_neighbor", (0, 1), (2,)), [(0, 4)], "resizes"),
        (O("resize_bilinear", (0, 1), (2,)), [(4, 5)], "resizes"),
        (O("space_to_depth", (0,), (1,), {"block": 0}), [], "blocks of 0"),
        (O("depth_to_space", (0,), (1,), {"block": -2}), [], "blocks of -2"),
        (O("depth_to_space", (0,), (1,), {"block": 2}), [], "do not divide the channels"),
        (O("leaky_relu", (0,), (1,), {"alpha": float("nan")}), [], "alpha nan"),
        (O("leaky_relu", (0,), (1,), {"alpha": float("inf")}), [], "alpha inf"),
        (O("leaky_relu", (0,), (1,), {"alpha": 3e38}), [], "beyond the kernel's 32 bits"),
        (O("neg", (0,), (1,)), [], "zero points of 0"),
        (O("batch_matmul", (0, 0), (1,)), [], "they do not fit"),
    ],
)
def test_absurd_options_are_refused_in_one_line(op: O, lists: list[tuple[int, ...]], message: str) -> None:
    assert message in refusal([MAP, *(ints(*v) for v in lists), T(MAP.shape, *GRID)], op)


@pytest.mark.parametrize("kind", ["transpose", "slice", "gather", "tile", "mirror_pad", "resize_bilinear", "split_v"])
def test_lists_that_are_not_stored_are_refused(kind: str) -> None:
    told = T((2,), "int32", None)
    data = tflite([MAP, told, MAP], [O(kind, (0, 1, 1), (2,))], [0, 1], [2])
    with pytest.raises(ValueError, match=r"8-bit codes|constants as input"):
        import_tflite_bytes(data, "net.tflite")


def test_moves_onto_another_grid_are_refused() -> None:
    other = T(MAP.shape, "int8", 0.2, 3)
    for kind in ("transpose", "tile", "reverse_v2", "pack"):
        options = {"axis": 1, "count": 2} if kind == "pack" else {}
        assert "another grid" in refusal([MAP, ints(0, 1, 2, 3), other], O(kind, (0, 1), (2,), options))


def test_bilinear_resizing_by_other_factors_names_the_way_out() -> None:
    y = T((1, 12, 8, 6), *GRID)
    assert "by nearest neighbours" in refusal([MAP, ints(12, 8), y], O("resize_bilinear", (0, 1), (2,)))
    y, options = T((1, 8, 8, 6), *GRID), {"align_corners": True}
    assert "corners aligned" in refusal([MAP, ints(8, 8), y], O("resize_bilinear", (0, 1), (2,), options))


def test_kernels_limits_name_a_kernel_set_that_can() -> None:
    logistic = [MAP, T(MAP.shape, "int8", 0.01, 3)]
    assert "--kernels xnnpack" in refusal(logistic, O("logistic", (0,), (1,)), kernels="builtin")
    import_tflite_bytes(tflite(logistic, [O("logistic", (0,), (1,))], [0], [1]), "net")
    assert "take int8" in refusal([T((1, 4), "uint8"), T((1, 4), "uint8")], O("elu", (0,), (1,)))
    wide = [T((1, 4), "int8", 1.0), T((1, 4), "int8", 1.0), T((1, 4), "int8", 0.5)]
    op = O("mul", (0, 1), (2,), {"activation": 0})
    assert "wraps at 16 bits" in refusal(wide, op, kernels="builtin")
    import_tflite_bytes(tflite(wide, [op], [0, 1], [2]), "net", "xnnpack")


def test_shapes_that_do_not_meet_are_refused() -> None:
    for kind in ("mul", "add", "maximum", "prelu"):
        options = {} if kind in ("maximum", "prelu") else {"activation": 0}
        assert "[4, 4, 5]" in refusal([MAP, T((1, 4, 4, 5), *GRID), MAP], O(kind, (0, 1), (2,), options))
    told, w = ints(1, 8, 8, 2), T((2, 3, 3, 6), "int8", 0.01, 0, np.ones((2, 3, 3, 6)))
    op = O("transpose_conv", (0, 1, 2), (3,), {"padding": 0, "stride_h": 3, "stride_w": 2})
    assert "makes 8 pixels of 4 by stride 3" in refusal([told, w, MAP, T((1, 8, 8, 2), *GRID)], op)
    op = O("transpose_conv", (0, 1, 2), (3,), {"padding": 0, "stride_h": -2, "stride_w": 2})
    assert "stride (-2, 2)" in refusal([told, w, MAP, T((1, 8, 8, 2), *GRID)], op)


def test_all_unknown_operators_are_listed_at_once() -> None:
    x = [T((1, 4), *GRID) for _ in range(5)]
    ops = [O("floor", (0,), (1,)), O("log", (1,), (2,)), O("floor", (2,), (3,)), O("relu", (3,), (4,))]
    with pytest.raises(ValueError, match=re.escape("not read: FLOOR × 2, LOG × 1; leave them out of the file, or")):
        import_tflite_bytes(tflite(x, ops, [0], [4]), "net.tflite")


def test_a_reshape_that_is_told_another_shape_is_refused() -> None:
    op = O("reshape", (0, 1), (2,))
    assert "is told the shape [1, 6, 16]" in refusal([MAP, ints(1, 6, 16), T((1, 16, 6), *GRID)], op)
    import_tflite_bytes(tflite([MAP, ints(-1, 16, 6), T((1, 16, 6), *GRID)], [op], [0], [2]), "net")


def test_a_function_that_the_last_bit_decides_is_remarked_upon() -> None:
    x, y = T((1, 4), "int8", 2.0**-13, 0), T((1, 4), "int8", 2.0**-10, 0)
    network = import_tflite_bytes(tflite([x, y], [O("tanh", (0,), (1,))], [0], [1]), "net", "builtin")
    assert "operator 0 (tanh) rounds codes" in network.remarks[0]
    y.scale = 0.0071
    assert import_tflite_bytes(tflite([x, y], [O("tanh", (0,), (1,))], [0], [1]), "net", "builtin").remarks == ()
