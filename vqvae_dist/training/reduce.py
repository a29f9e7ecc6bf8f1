"""What the processes tell each other in a step, in one collective: gradients, losses and codebook statistics.

DistributedDataParallel would send gradients while the last backward pass still runs; a process that ran out of memory
in it would leave the others waiting. So they are sent after all processes agreed that they have them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vqvae_dist.models.quantizer import CodeStatistics
from vqvae_dist.training.runtime import Runtime


def exchange(
    runtime: Runtime, parameters: Iterable[nn.Parameter], losses: Tensor, statistics: CodeStatistics | None = None
) -> CodeStatistics | None:
    """Average the gradients of ``parameters`` and ``losses`` over all processes, in place; return statistics of all.

    Statistics are summed, but for the candidates, of which the best are kept. These travel in a slot for each process,
    the other slots zero, so that one sum carries everything.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if statistics is None:
        runtime.sum_together([*gradients, losses])
        offered = None
    else:
        counts, sums, error, scores, candidates = statistics
        # An empty place scores -inf, and -inf + 0 stays -inf.
        offered = runtime.slots(torch.cat([scores[:, None], candidates], dim=1))
        runtime.sum_together([*gradients, losses, counts, sums, error, offered])
    if runtime.processes > 1:
        torch._foreach_div_([*gradients, losses], float(runtime.processes))
    if statistics is None or offered is None:
        return None
    offered = offered.flatten(0, 1)
    best = torch.topk(offered[:, 0], len(statistics.scores))
    return CodeStatistics(counts, sums, error, best.values, offered[best.indices, 1:])
