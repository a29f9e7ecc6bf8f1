"""Processes, devices and precision: one ``Runtime`` that the trainings ask, built around one ``Accelerator``."""

from __future__ import annotations

import os
import resource
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor

from data_tools.console import CommandError, UsageError, counted
from vqvae_dist.config import PrecisionConfig, ScheduleConfig
from vqvae_dist.training.heartbeat import Heartbeat
from vqvae_dist.training.memory import MemoryNote, OutOfMemoryError
from vqvae_dist.training.stop import stop_requested

# accelerate's name for "don't broadcast buffers" still works; torch only announces a new name for it.
warnings.filterwarnings("ignore", message=".*broadcast_buffers.*is deprecated", category=FutureWarning)


@dataclass(frozen=True)
class Precision:
    """The arithmetic that was chosen, and kept for as long as the run is trained."""

    mixed: str
    """``no``, ``bf16`` or ``fp16``."""

    compile: bool
    """Whether the networks are compiled."""

    why: str = ""
    """For people: whether it is compiled, and why not."""

    def __str__(self) -> str:
        return f"computes in {'float32' if self.mixed == 'no' else self.mixed}, {self.why}"


class Runtime:
    """This process among the others."""

    def __init__(self, precision: Precision, config: PrecisionConfig, *, timeout_s: int) -> None:
        cuda = torch.cuda.is_available()
        self.accelerator = Accelerator(
            mixed_precision=precision.mixed,
            cpu=not cuda,
            step_scheduler_with_optimizer=False,
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=timedelta(seconds=timeout_s)),
                DistributedDataParallelKwargs(broadcast_buffers=False),
            ],
        )
        self.precision = precision
        self.heartbeat: Heartbeat | None = None
        self.memory = MemoryNote()
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.processes: int = self.accelerator.num_processes
        self.is_main: bool = self.accelerator.is_main_process
        torch.backends.cuda.matmul.allow_tf32 = False  # the quantizer's distances are matrix products
        torch.backends.cudnn.allow_tf32 = config.tf32
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA is first used
            torch.use_deterministic_algorithms(True)

    def watch(self, stacks: Path, timeout_s: int) -> None:
        """Notice from now on where another process hangs; see ``heartbeat``."""
        if self.processes > 1:
            self.heartbeat = Heartbeat(rank=self.rank, processes=self.processes, timeout_s=timeout_s, stacks=stacks)

    def agree(self) -> bool:
        """Whether any process was asked to stop; OutOfMemoryError where one ran out. Every process calls it."""
        flags = torch.tensor([stop_requested(), self.memory.ran_out], dtype=torch.float32, device=self.device)
        stop, ran_out = self.sum(flags).tolist()
        if ran_out:
            self.memory.ran_out = False
            raise OutOfMemoryError
        return bool(stop)

    def sum(self, values: Tensor) -> Tensor:
        """Sum ``values`` over all processes, in place; every process calls it at the same line."""
        if self.processes > 1:
            torch.distributed.all_reduce(values)
        return values

    def sum_together(self, tensors: Sequence[Tensor]) -> None:
        """Sum each of ``tensors`` over all processes, in place, in one collective."""
        if self.processes > 1:
            sizes = [tensor.numel() for tensor in tensors]
            flat = self.sum(torch.cat([tensor.flatten() for tensor in tensors]))
            for tensor, part in zip(tensors, flat.split(sizes), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def gather_slots(self, values: Tensor) -> Tensor:
        """Stack each process's ``values`` (...) to (processes, ...)."""
        return self.sum(self.slots(values))

    def slots(self, values: Tensor) -> Tensor:
        """``values`` (...) at this process's place of (processes, ...), zeros elsewhere; a sum stacks them all."""
        slots = values.new_zeros(self.processes, *values.shape)
        slots[self.rank] = values
        return slots

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the main process's values of ``tensors``, in place."""
        if self.processes > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def peak_memory(self) -> int:
        """The most bytes that tensors held on this process's GPU, or that the process held without one."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def barrier(self) -> None:
        """Wait for all processes."""
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the process group; after it no collective may be called."""
        if self.heartbeat:
            self.heartbeat.stop()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


SIGNS_OF_A_LOST_PEER = ("closed by peer", "reset by peer", "Broken pipe", "remote process exited")
"""In what gloo and NCCL say; neither has an error of its own for it."""


def peer_ended(error: Exception) -> bool:
    """Whether a collective broke because another process is gone."""
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS_OF_A_LOST_PEER)


def batch_shares(schedule: ScheduleConfig, processes: int) -> tuple[int, int]:
    """Slices of a global batch for each process, and slices of a micro-batch; UsageError if they don't divide."""
    size, micro = schedule.batch_size, schedule.micro_batch_size
    unit = processes * max(micro, 1)
    if size % unit:
        below, above = size // unit * unit, (size // unit + 1) * unit
        nearest = f"{below} or {above}" if below else f"{above}"
        parts = counted(processes, "process", "processes") + (f" x {counted(micro, 'slice')}" if micro else "")
        raise UsageError(f"schedule.batch_size {size} does not divide by {parts}; nearest: {nearest}")
    share = size // processes
    return share, micro or share


def check_precision(mixed: str) -> None:
    """Raise UsageError for float16 without CUDA: accelerate would silently compute in float32."""
    if mixed == "fp16" and not torch.cuda.is_available():
        raise UsageError("precision.mixed fp16 needs a CUDA device; on CPU use no or bf16")


def resolve_precision(config: PrecisionConfig, work: float) -> Precision:
    """Choose what ``auto`` stands for on this machine; ``work`` is the training's size from ``training_work``.

    CommandError where compiling was asked for and nothing can be compiled, and where a stop ended the trial.
    """
    compiled, why = False, "uncompiled, as asked"
    if config.compile == "auto" and work <= compiling_repays():
        why = "uncompiled: too short to win back the time of compiling"
    elif config.compile != "off":
        compiled = compiler_works()
        if not compiled and stop_requested():  # Ctrl-C ends a compiler too; what it was worth is unknown
            raise CommandError("stopped while the compiler was tried, before anything began; give the command again")
        why = "compiled" if compiled else "uncompiled: no compiler works here (a C++ compiler is needed, g++)"
    if config.compile == "on" and not compiled:
        raise CommandError(
            "precision.compile on: no compiler works here; install a C++ compiler (g++), or give off or auto"
        )
    mixed = config.mixed if config.mixed != "auto" else "bf16" if has_bf16() else "no"
    return Precision(mixed, compiled, why)


def has_bf16() -> bool:
    """Whether bfloat16 is fast here: a GPU that has it, or without one a CPU that multiplies it in hardware."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_has_bf16()


def compiling_repays() -> float:
    """Work above which compiling (about 40 s) may be won back; ten times as much on a CPU, where it gains little."""
    return 5e11 if torch.cuda.is_available() else 5e12


def training_work(steps: int, batch_size: int, pixels: int, hidden: int) -> float:
    """A rough size of a training in multiply-adds, up to a constant factor: steps x slices x pixels x hidden^2."""
    return float(steps) * batch_size * pixels * hidden**2


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX)."""
    flags = Path("/proc/cpuinfo")
    text = flags.read_text() if flags.is_file() else ""
    return "avx512_bf16" in text or "amx_bf16" in text


def compiler_works() -> bool:
    """Whether torch.compile can build and run a small function here (it needs a C++ compiler, or Triton)."""
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        compiled = torch.compile(lambda x: torch.relu(x) + 1)
        return bool((compiled(torch.zeros(8, device=device)) == 1).all())
    except Exception:  # whatever the toolchain raises, the answer is no; the training then runs uncompiled
        return False


def default_threads() -> None:
    """Give this process its share of the machine's cores, unless OMP_NUM_THREADS says otherwise."""
    if "OMP_NUM_THREADS" not in os.environ:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local))
