from __future__ import annotations

import pytest
import torch

from vqvae_dist.config import QuantizerConfig, VQVAEModelConfig
from vqvae_dist.models.build import build_vqvae
from vqvae_dist.models.fsq import FSQ


def test_outputs_are_rounded_to_the_grid_and_their_gradient_passes() -> None:
    torch.manual_seed(0)
    quantizer = FSQ(64, 3)
    z = torch.randn(2, 3, 8, 8, requires_grad=True)
    output = quantizer(3 * z, torch.arange(2))
    decoded = quantizer.weight[output.codes].permute(0, 3, 1, 2)
    torch.testing.assert_close(output.z_q, decoded)
    assert len(quantizer.weight.unique(dim=0)) == 64
    assert sorted(set(output.z_q.flatten().tolist())) == [-1, -0.5, 0, 0.5]
    output.z_q.sum().backward()
    assert z.grad is not None
    assert (z.grad > 0).any()
    assert output.statistics.counts.sum() == 128


@pytest.mark.parametrize("levels", [7, 8])
def test_codes_agree_with_vector_quantize_pytorch(levels: int) -> None:
    import vector_quantize_pytorch

    outputs = 4 * torch.rand(1, 3, 200, 200, generator=torch.Generator().manual_seed(0)) - 2
    ours = FSQ(levels**3, 3)(outputs)
    quantized, codes = vector_quantize_pytorch.FSQ(levels=[levels] * 3)(outputs)
    assert len(ours.codes.unique()) == levels**3
    assert (ours.codes == codes).float().mean() > 0.9999
    torch.testing.assert_close(ours.z_q[ours.z_q == quantized], quantized[ours.z_q == quantized])


def test_sizes_that_are_no_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="K = 100, D = 3"):
        FSQ(100, 3)


def test_a_trained_grid_evaluates_as_any_codebook() -> None:
    """Through the export: settings build the same model again."""
    config = VQVAEModelConfig(
        hidden=8, residual_hidden=4, codebook_size=27, code_dim=3, quantizer=QuantizerConfig(kind="fsq")
    )
    model, again = build_vqvae(config), build_vqvae(config)
    again.load_state_dict(model.state_dict())
    images = torch.rand(2, 1, 20, 22)
    codes = again.encode(images)
    torch.testing.assert_close(again.decode(codes, (20, 22)), model(images).reconstruction)


@pytest.mark.parametrize(("K", "D"), [(100, 3), (512, 64)])
def test_settings_that_are_no_grid_are_refused(K: int, D: int) -> None:
    with pytest.raises(ValueError, match=r"model\.codebook_size"):
        VQVAEModelConfig(codebook_size=K, code_dim=D, quantizer=QuantizerConfig(kind="fsq"))
