"""The operators that are read, each by its rule."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sidecar.network.operators.add import read_add, read_sub
from sidecar.network.operators.application import Rule
from sidecar.network.operators.average_pool import read_average_pool, read_global_average_pool
from sidecar.network.operators.batch_normalization import read_batch_normalization
from sidecar.network.operators.clip import read_clip
from sidecar.network.operators.concat import read_concat
from sidecar.network.operators.conv import read_conv
from sidecar.network.operators.leaky_relu import read_leaky_relu
from sidecar.network.operators.matmul import read_gemm, read_matmul
from sidecar.network.operators.max_pool import read_max_pool
from sidecar.network.operators.relu import read_relu
from sidecar.network.operators.reshape import (
    read_dropout,
    read_flatten,
    read_identity,
    read_reshape,
    read_squeeze,
    read_unsqueeze,
)
from sidecar.network.operators.scale import read_div, read_mul
from sidecar.network.operators.sigmoid import read_sigmoid
from sidecar.network.operators.softmax import read_softmax
from sidecar.network.operators.tanh import read_tanh
from sidecar.network.operators.transpose import read_transpose

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "Add": read_add,
        "AveragePool": read_average_pool,
        "BatchNormalization": read_batch_normalization,
        "Clip": read_clip,
        "Concat": read_concat,
        "Conv": read_conv,
        "Div": read_div,
        "Dropout": read_dropout,
        "Flatten": read_flatten,
        "Gemm": read_gemm,
        "GlobalAveragePool": read_global_average_pool,
        "Identity": read_identity,
        "LeakyRelu": read_leaky_relu,
        "MatMul": read_matmul,
        "MaxPool": read_max_pool,
        "Mul": read_mul,
        "Relu": read_relu,
        "Reshape": read_reshape,
        "Sigmoid": read_sigmoid,
        "Softmax": read_softmax,
        "Squeeze": read_squeeze,
        "Sub": read_sub,
        "Tanh": read_tanh,
        "Transpose": read_transpose,
        "Unsqueeze": read_unsqueeze,
    }
)
