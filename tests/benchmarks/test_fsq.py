from __future__ import annotations

import pytest
import torch

from benchmarks.fsq import FSQ


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


def test_codes_agree_with_vector_quantize_pytorch() -> None:
    import vector_quantize_pytorch

    outputs = 4 * torch.rand(1, 3, 200, 200, generator=torch.Generator().manual_seed(0)) - 2
    ours = FSQ(512, 3)(outputs)
    quantized, codes = vector_quantize_pytorch.FSQ(levels=[8, 8, 8])(outputs)
    assert len(ours.codes.unique()) == 512
    assert (ours.codes == codes).float().mean() > 0.9999
    torch.testing.assert_close(ours.z_q[ours.z_q == quantized], quantized[ours.z_q == quantized])


def test_sizes_that_are_no_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="K = 100, D = 3"):
        FSQ(100, 3)
