"""How a started W&B run is written: one row a step, best values in the summary, and no error that gets out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from data_tools.console import first_line, warn
from vqvae_dist.config_pixelcnn import PIXELCNN_METRICS
from vqvae_dist.config_vqvae import VQVAE_METRICS

SEND_S = 8.0
"""How long the client may still send when the run ends."""

SETTLE_S = 3.0
"""Values of one step that come within this time are one row in W&B: its scores, its picture, its histograms."""


class Writer:
    """A started run: makes one row of what belongs to one step, keeps best values, and survives the client's errors.

    Args:
        wandb: The module.
        run: The started run.
        after: The last step that W&B has; rows up to it are not logged again.
        earlier: The rows of earlier attempts; those that W&B does not have are logged now.
    """

    def __init__(self, wandb: Any, run: Any, *, after: int, earlier: Iterable[Mapping[str, Any]]) -> None:
        self.finished = False
        self._wandb, self._run, self._after = wandb, run, after
        self._step, self._row, self._since = 0, dict[str, Any](), 0.0
        self._best: dict[str, float] = {}
        self._warned = False
        for row in earlier:
            self.add(row["global_step"], row)
        self.commit()

    def try_to(self, work: Callable[[Writer], None]) -> None:
        """Do some work; what the client raises is said once."""
        try:
            work(self)
        except Exception as error:
            if not self._warned:
                warn(f"W&B: {first_line(error)}; training goes on, metrics.jsonl has every row")
            self._warned = True

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Add values to the row of a step; a new step completes the row before."""
        if step != self._step:
            self.commit()
        self._step, self._since = step, self._since or time.monotonic()
        self._row |= {key: value for key, value in values.items() if _loggable(value)}

    def settle(self) -> None:
        """Complete a row that nothing was added to for a while."""
        if self._row and time.monotonic() - self._since >= SETTLE_S:
            self.commit()

    def commit(self) -> None:
        """Log the row that is being collected."""
        row, step = self._row, self._step
        self._row, self._since = {}, 0.0
        if row:
            self._update_best(row)
        if row and step > self._after:
            self._run.log({key: self._made(value) for key, value in row.items()} | {"global_step": step})

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set values of the summary."""
        self._run.summary.update(dict(values))

    def finish(self, state: str) -> None:
        """End the run; a stopped one shows as preempted until it goes on."""
        self.finished = True
        self.try_to(Writer.commit)
        if state == "stopped":
            self._run.mark_preempting()
        began = time.monotonic()
        self._run.finish(exit_code=0 if state == "completed" else 1)
        if time.monotonic() - began >= SEND_S:
            warn(f"W&B did not take everything in {SEND_S:.0f} s; python -m jobs sync sends the rest")

    def _made(self, value: Any) -> Any:
        return value(self._wandb) if callable(value) else value

    def _update_best(self, row: Mapping[str, Any]) -> None:
        better = {key: value for key, value in best_of(self._best, row).items() if self._best.get(key) != value}
        if better:
            self._best |= better
            self._run.summary.update(better)


def best_of(best: Mapping[str, float], row: Mapping[str, Any]) -> dict[str, float]:
    """``best`` with the validate/ metrics of a row: ``best/ssim`` for ``validate/ssim``."""
    updated = dict(best)
    for key, value in row.items():
        stage, _, metric = key.partition("/")
        if stage == "validate" and isinstance(value, int | float):
            name = f"best/{metric}"
            choose = min if metric in LOWER_IS_BETTER else max
            updated[name] = choose(updated.get(name, value), value)
    return updated


LOWER_IS_BETTER = frozenset(name for name, best in {**VQVAE_METRICS, **PIXELCNN_METRICS}.items() if best == "min")
"""validate/ metrics of which the lowest is the best."""


def _loggable(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
