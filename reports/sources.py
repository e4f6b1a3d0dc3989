"""Which network a name stands for: one of ours, of torchvision, of the user's code, or a file."""

import difflib
from pathlib import Path

from workloads import WORKLOADS, Workload
from workloads.hub import hub_workload, is_hub_folder
from workloads.tinyml import TINY_TASKS
from workloads.usercode import exported_workload, user_workload
from workloads.zoo import zoo_names, zoo_workload


def find_workload(name: str, data: Path | None = None, *, trust: bool = False) -> Workload:
    """Return a network by what the user calls it.

    Parameters
    ----------
    name
        A key of `workloads.WORKLOADS`, ``package.module:callable``, a ``.pt2`` file, a folder with a model
        of transformers, or a name of torchvision.
    data
        Samples, where the network's inputs are known from them only.
    trust
        The user vouches for a file that can execute code when it is loaded.

    Raises
    ------
    ValueError
        If there is none; close names are proposed.
    """
    if name in WORKLOADS:
        return WORKLOADS[name]
    if name.endswith(".pt2"):
        return exported_workload(Path(name), data, trusted=trust)
    if is_hub_folder(name):
        return hub_workload(Path(name), data)
    if ":" in name:
        return user_workload(name, data)
    others = zoo_names()
    if name in others:
        return zoo_workload(name)
    if Path(name).exists():
        raise ValueError(
            f"network {name!r} is a {'folder' if Path(name).is_dir() else 'file'} of no known kind; give an .onnx, "
            ".tflite or .pt2 file, a folder of transformers with its config.json, or --weights FILE beside a network's "
            "name"
        )
    known = (*WORKLOADS, *TINY_TASKS, *others)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(WORKLOADS)}"
    raise ValueError(f"unknown network {name!r}; {hint} (accelsim list networks; package.module:callable for your own)")
