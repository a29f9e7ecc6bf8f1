from __future__ import annotations

import torch
from torch import Tensor

from tests.vqvae_dist.models.test_sampling import make_condition, sample_naively
from vqvae_dist.config import PixelCNNModelConfig
from vqvae_dist.models.build import build_pixelcnn
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.sampling import sample


def test_a_single_stack_is_causal_and_has_its_blind_spot() -> None:
    torch.manual_seed(0)
    config = PixelCNNModelConfig(kind="single_stack", layers=4, hidden=8, dilations=(1,))
    model = build_pixelcnn(config, codebook_size=7, classes=0).double().eval()
    codes = torch.randint(7, (1, 9, 9))
    condition = Condition(torch.zeros(1), torch.full((1,), -1), torch.zeros(1))

    def moved(row: int, column: int) -> Tensor:
        other = codes.clone()
        other[0, row, column] = (other[0, row, column] + 1) % 7
        changed: Tensor = model(other, condition) != model(codes, condition)
        return changed.any(1)[0].flatten()

    with torch.no_grad():
        for row, column in ((0, 0), (3, 4), (8, 8)):
            place = 9 * row + column
            assert not moved(row, column)[: place + 1].any()
        assert moved(3, 4)[9 * 3 + 5]
        assert moved(3, 4)[9 * 4 + 4]
        assert not moved(3, 7)[9 * 4 + 4], "above and to the right, within reach of two stacks"


def test_it_draws_what_its_distribution_says() -> None:
    torch.manual_seed(0)
    config = PixelCNNModelConfig(kind="single_stack", layers=2, hidden=8)
    model = build_pixelcnn(config, codebook_size=7, classes=0).double().eval()
    condition = make_condition(2)
    naive = sample_naively(model, grid=(4, 5), condition=condition, seed=3)
    assert torch.equal(sample(model, grid=(4, 5), condition=condition, seed=3), naive)


def test_every_gate_bias_of_the_single_stack_is_used() -> None:
    torch.manual_seed(0)
    config = PixelCNNModelConfig(kind="single_stack", layers=3, hidden=8)
    model = build_pixelcnn(config, codebook_size=7, classes=0).double()
    model(torch.randint(7, (2, 5, 6)), make_condition(2)).square().sum().backward()
    gates = model.get_parameter("gates")
    assert gates.shape == (3 * 2 * 8,)
    assert gates.grad is not None
    assert gates.grad.all()
