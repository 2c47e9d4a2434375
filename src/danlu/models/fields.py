"""The fields that rows of the zoo declare, each described once."""

from __future__ import annotations

from typing import Literal

from danlu.fields import Field
from danlu.nn.cells import CELLS
from danlu.nn.layers import ACTIVATIONS

_WIDEST = 65536

HIDDEN = Field(
    "hidden",
    tuple[int, ...],
    (64, 64),
    "Widths of the hidden dense layers, such as 64,64; in a recurrent network, units by layer.",
    "[64,64]",
    ge=1,
    le=_WIDEST,
)
CELL = Field(
    "cell",
    tuple[str, ...],
    (),
    "Cell of a recurrent network: one for all layers, or one for each.",
    choices=[name for name in CELLS if name != "gru-reset-before"],
)
RESET_AFTER = Field(
    "reset_after",
    bool,
    True,
    "Whether a GRU resets after the product, as PyTorch's does; false: before it, as in the paper "
    "(Cho et al. 2014).",
)
EMBEDDING = Field(
    "embedding",
    int,
    64,
    "Length of a token's vector; 0 for one-hot vectors.",
    hint="64",
    ge=0,
    le=_WIDEST,
)
BIDIRECTIONAL = Field("bidirectional", bool, False, "Whether a text is also read from its end.")
STATEFUL = Field(
    "stateful",
    bool,
    False,
    "Whether a window of running text begins with the state that the one before it ended with.",
)
CRF = Field(
    "crf",
    bool,
    False,
    "Whether a tagger scores whole sequences of tags (a conditional random field) instead of each "
    "tag by itself.",
)
ATTENTION = Field(
    "attention", bool, False, "Whether the decoder attends to every token of the source."
)
FORGET_BIAS = Field(
    "forget_bias",
    float,
    1.0,
    "Initial bias of an LSTM's forget gate: above 0, it remembers from the start.",
    hint="1",
)
CHANNELS = Field(
    "channels",
    tuple[int, ...],
    (6, 6),
    "Filters of each convolution, such as 6,6.",
    "[6,6]",
    ge=1,
    le=_WIDEST,
)
KERNEL_SIZE = Field(
    "kernel_size", int, 5, "Side of the convolutions' windows, in pixels.", ge=1, le=31
)
PADDING = Field(
    "padding",
    int,
    0,
    "Zeros around each convolution's input, in pixels; half a window where a picture is too small "
    "without.",
    ge=0,
    le=15,
)
ACTIVATION = Field(
    "activation", str, "relu", "Activation after every hidden layer.", choices=ACTIVATIONS
)
BATCH_NORM = Field(
    "batch_norm",
    Literal["none", "before", "after"],
    "none",
    "Batch normalisation of hidden layers, before or after the activation.",
)
LAYER_NORM = Field(
    "layer_norm",
    Literal["none", "before", "after"],
    "none",
    "Layer normalisation of hidden layers, before or after the activation: each example by its own "
    "mean and variance, whatever lies beside it (Ba et al. 2016).",
)
RESIDUAL = Field(
    "residual",
    bool,
    False,
    "Whether a hidden layer adds what it was given to what it makes of it, where both are as wide "
    "(He et al. 2016).",
)
DROPOUT = Field(
    "dropout",
    float,
    0.0,
    "Probability of zeroing a hidden dense unit in training; in a recurrent network, a unit of a "
    "layer's input or output.",
    hint="0.5",
    ge=0,
    lt=1,
)
WIDTH = Field(
    "width",
    float,
    1.0,
    "Factor on the filters of every convolution: 0.5 for half as many as published.",
    hint="0.5",
    gt=0,
    le=16,
)
STEM = Field(
    "stem",
    Literal["auto", "full", "small"],
    "auto",
    "First layers of a network made for 224 pixels: full, small for pictures of few pixels, auto: "
    "small up to 64 pixels.",
)
AUXILIARY = Field(
    "auxiliary",
    float,
    0.3,
    "Weight of each auxiliary classifier's loss in training; 0 leaves them out.",
    hint="0.3",
    ge=0,
)
PHM_N = Field(
    "phm_n",
    int,
    1,
    "n of hypercomplex dense layers, which cost d·q/n weights instead of d·q; 1 for ordinary ones.",
    ge=1,
    le=64,
)
