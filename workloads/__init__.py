"""Networks with trained weights, their samples and their metrics."""

from workloads.base import IGNORED, Samples, Source, Workload, split
from workloads.bert import BERT_WORKLOADS
from workloads.cifar import CIFAR_WORKLOADS
from workloads.digits import DIGITS
from workloads.imagenet import IMAGENET_WORKLOADS
from workloads.llama import LLAMA_WORKLOADS
from workloads.lstm import CHAR_LSTM
from workloads.metrics import METRICS, Metric
from workloads.wikitext import WIKITEXT

__all__ = ["IGNORED", "METRICS", "WORKLOADS", "Metric", "Samples", "Source", "Workload", "split"]

WORKLOADS = {
    w.name: w
    for w in (
        DIGITS,
        *CIFAR_WORKLOADS,
        *IMAGENET_WORKLOADS,
        CHAR_LSTM,
        *LLAMA_WORKLOADS,
        *BERT_WORKLOADS,
        WIKITEXT,
    )
}
