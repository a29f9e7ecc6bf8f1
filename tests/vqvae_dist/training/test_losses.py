from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqvae_dist.config import LossConfig
from vqvae_dist.models.vqvae import VQVAEOutput
from vqvae_dist.training import loss_terms
from vqvae_dist.training.losses import TERMS, vqvae_losses


def output(reconstruction: Tensor) -> VQVAEOutput:
    return VQVAEOutput(reconstruction, torch.zeros(1), torch.tensor(0.5), torch.tensor(0.25), None, None)


@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_weighed_and_vanishes_for_equal_images(name: str) -> None:
    torch.manual_seed(0)
    images, other = torch.rand(2, 2, 1, 16, 16)
    weights = dict.fromkeys(TERMS, 0.0) | {"mse": 1.0}
    plain = vqvae_losses(images, output(other), LossConfig(**weights), 0.25)
    more = vqvae_losses(images, output(other), LossConfig(**{**weights, name: weights[name] + 2.0}), 0.25)
    assert torch.isclose(more.total - plain.total, 2.0 * TERMS[name](other, images))
    assert torch.isclose(plain.total, F.mse_loss(other, images) + 0.25 + 0.25 * 0.5)
    assert TERMS[name](images, images).abs() < 1e-6 < TERMS[name](other, images)


def test_edges_ignore_a_constant_error_and_feel_a_blur() -> None:
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 1.0
    assert loss_terms.edges(step, step + 0.1).item() == pytest.approx(0.0, abs=1e-6)
    blurred = F.avg_pool2d(F.pad(step, (1, 1, 0, 0), mode="replicate"), (1, 3), stride=1)
    # the one step of 1 becomes three of 1/3: 2/3 + 1/3 + 1/3 off in each row of 7 differences
    assert loss_terms.edges(blurred, step).item() == pytest.approx(4 / 3 / 7)
