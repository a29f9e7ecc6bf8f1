from __future__ import annotations

from typing import Any

import pytest
import torch

from vqvae_dist.config import QuantizerConfig, VQVAEModelConfig
from vqvae_dist.models.build import build_vqvae
from vqvae_dist.models.vqvae import VQVAE, higher_resolution, lower_resolution


def make(**options: Any) -> VQVAE:
    torch.manual_seed(0)
    sizes = {"hidden": 8, "residual_layers": 1, "residual_hidden": 4, "codebook_size": 16, "code_dim": 4}
    quantizer = QuantizerConfig(init="normal", **options.pop("quantizer", {}))
    return build_vqvae(VQVAEModelConfig(**{**sizes, **options}, quantizer=quantizer))


def images_of(H: int, W: int, B: int = 2) -> torch.Tensor:
    return torch.rand(B, 1, H, W, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("stem", "upsample"),
    [("strided", "transpose"), ("strided", "shuffle"), ("strided", "nearest"), ("space_to_depth", "depth_to_space")],
)
@pytest.mark.parametrize("downsample", [2, 4, 8])
@pytest.mark.parametrize("size", [(32, 32), (33, 41), (7, 50)])
def test_any_size_comes_back_at_its_size(size: tuple[int, int], downsample: int, stem: str, upsample: str) -> None:
    model = make(downsample=downsample, stem=stem, upsample=upsample)
    output = model(images_of(*size))
    h, w = -(-size[0] // downsample), -(-size[1] // downsample)
    assert output.reconstruction.shape == (2, 1, *size)
    assert output.codes.shape == (2, h, w)
    assert model.grid(size) == (h, w)


def test_folding_blocks_of_pixels_keeps_each_pixel_in_its_place() -> None:
    """Of a stem that only folds and an end that only unfolds, nothing remains."""
    fold, _ = lower_resolution(8, 4, "space_to_depth")
    *_, unfold = higher_resolution(8, 4, "depth_to_space")
    images = images_of(12, 20)
    assert fold(images).shape == (2, 16, 3, 5)
    assert torch.equal(unfold(fold(images)), images)


def test_folding_computes_at_the_code_resolution_alone() -> None:
    """Which makes a step cheaper: no convolution sees more cells than there are codes."""
    model = make(stem="space_to_depth", upsample="depth_to_space")
    cells = []
    for part in model.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            part.register_forward_hook(lambda _module, _given, made: cells.append(made.shape[-2:]))
    model(images_of(32, 32))
    assert set(cells) == {(8, 8)}


def test_padding_is_background_below_and_to_the_right() -> None:
    padded = make().pad(images_of(33, 41))
    assert padded.shape == (2, 1, 36, 44)
    assert torch.equal(padded[..., :33, :41], images_of(33, 41))
    assert padded[..., 33:, :].abs().sum() + padded[..., 41:].abs().sum() == 0


def test_encoding_and_decoding_is_what_forward_does() -> None:
    model, images = make().eval(), images_of(33, 41)
    with torch.no_grad():
        output = model(images)
        codes = model.encode(images)
        assert torch.equal(codes, output.codes)
        torch.testing.assert_close(model.decode(codes, (33, 41)), output.reconstruction)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_a_slice_s_result_does_not_depend_on_its_batch(norm: str) -> None:
    model, images = make(norm=norm).train(), images_of(32, 32, B=4)
    torch.testing.assert_close(model(images[1:2]).reconstruction, model(images).reconstruction[1:2])


@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
@pytest.mark.parametrize("kind", ["ema", "gradient"])
def test_activation_checkpointing_changes_no_gradient(kind: str, gradient: str) -> None:
    gradients = []
    for recompute in (False, True):
        model = make(quantizer={"kind": kind, "gradient": gradient}).train()
        model.recompute = recompute
        output = model(images_of(32, 32), torch.arange(2))
        ((output.reconstruction - images_of(32, 32)).square().mean() + output.commitment + output.codebook).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain is not None
        assert recomputed is not None
        assert torch.equal(plain, recomputed)


def test_a_seed_draws_weights_in_the_order_it_always_had() -> None:
    """A training that is made again begins as the first one did: the decoder's upsampling is drawn before its rest."""
    quantizer = make().quantizer
    torch.manual_seed(0)
    model = VQVAE(hidden=8, residual_layers=0, downsample=2, code_dim=4, quantizer=quantizer)
    torch.manual_seed(0)
    drawn: list[torch.nn.Module] = [
        torch.nn.Conv2d(1, 8, 4), torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, 4, 1),
        torch.nn.ConvTranspose2d(8, 1, 4), torch.nn.Conv2d(4, 8, 3),
    ]  # fmt: skip
    built = [model.encoder[0], model.encoder[2], model.encoder[-1], model.decoder[-1], model.decoder[0]]
    for one, other in zip(built, drawn, strict=True):
        assert torch.equal(one.weight, other.weight)  # type: ignore[arg-type]  # a module's attribute is a tensor or a module


def test_residual_blocks_start_from_settings() -> None:
    assert len(make(residual_layers=0).encoder) < len(make(residual_layers=3).encoder)


def test_a_tiny_model_learns_to_reconstruct() -> None:
    from tests.phantoms import head

    model = make(quantizer={"decay": 0.9}, hidden=16)
    images = torch.stack([torch.from_numpy(head(32, 32, s, 0.5)).float() for s in range(4)])[:, None]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(150):
        output = model(images, torch.arange(4 * step, 4 * step + 4))
        loss = (output.reconstruction - images).square().mean()
        optimizer.zero_grad()
        (loss + 0.25 * output.commitment).backward()
        optimizer.step()
        model.quantizer.update(output.statistics)
    assert loss < 0.2 * images.var()
