"""What each torch operation becomes in the float graph: one function an operation, listed in `HANDLERS`.

Contract: a handler gets the builder and the operation's arguments by their schema names. Tensors are `Value`s (views of
graph tensors) where they depend on the network's input, torch tensors where they are constant. It returns the result as
a `Value`, or a tuple of results. It raises UnsupportedError with a reason where the graph cannot hold the operation.
"""

from quant.capture_build import Handler
from quant.capture_layers import LAYERS
from quant.capture_maps import MAPS
from quant.capture_math import FUNCTIONS
from quant.capture_sequence import SEQUENCES
from quant.capture_views import VIEWS

HANDLERS: dict[str, Handler] = {**VIEWS, **FUNCTIONS, **LAYERS, **MAPS, **SEQUENCES}
"""By the name of torch's operation without overload."""
