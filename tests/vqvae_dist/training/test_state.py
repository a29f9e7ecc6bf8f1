from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vqvae_dist.training.state import laid_out_like


def trained(steps: int, *, break_at: int | None, like_parameter: bool = True) -> torch.Tensor:
    """A channels_last convolution after ``steps`` of fused AdamW, its moments once stored row-major and taken up."""
    torch.manual_seed(0)
    model = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    for step in range(steps):
        if step == break_at:
            stored = copy.deepcopy(optimizer.state_dict())
            for number, parameter in enumerate(model.parameters()):
                for name, value in stored["state"][number].items():
                    flat = value.contiguous()
                    stored["state"][number][name] = laid_out_like(parameter, flat) if like_parameter else flat
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
            optimizer.load_state_dict(stored)
        x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(step))
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.weight.detach().clone()


def test_moments_taken_up_in_the_layout_of_their_weight_go_on_exactly() -> None:
    assert torch.equal(trained(8, break_at=4), trained(8, break_at=None))


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 3, 2, 2)])
def test_layout_follows_the_parameter_and_values_stay(shape: tuple[int, ...]) -> None:
    values = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    parameter = torch.zeros(shape)
    if len(shape) == 4:
        parameter = parameter.to(memory_format=torch.channels_last)
    laid = laid_out_like(parameter, values)
    assert laid.stride() == parameter.stride()
    assert torch.equal(laid, values)
    assert laid_out_like(parameter, torch.tensor(3.0)) == 3.0  # a step count stays as it is
