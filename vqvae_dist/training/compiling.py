"""torch.compile for the networks of a training: the first few shapes are compiled, further ones run eager."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from data_tools.console import say

MAX_SHAPES = 4
"""Compiled shapes; each costs up to a minute."""


class Compiling:
    """Compiles ``parts`` in place (their names and weights stay) and tells which batches use it."""

    def __init__(self, parts: Sequence[nn.Module], *, enabled: bool) -> None:
        self.enabled = enabled
        self.shapes: set[Hashable] = set()
        self.said = False
        if enabled:
            # On a machine without a GPU it announces that there is none.
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
            for part in parts:
                part.compile(dynamic=False)

    def context(self, shape: Hashable) -> AbstractContextManager[Any]:
        """Run a batch of ``shape`` in this context."""
        if not self.enabled or shape in self.shapes:
            return nullcontext()
        if len(self.shapes) < MAX_SHAPES:
            self.shapes.add(shape)
            return nullcontext()
        if not self.said:
            say(f"{MAX_SHAPES} shapes are compiled; further ones, like {shape}, run uncompiled")
            self.said = True
        eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
        return eager
