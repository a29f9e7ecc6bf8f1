"""Public quantizers trained as ours is: the same batches, crops, loss, optimizer, learning rates and number of steps.

``monai``: MONAI's VQVAE with about our size. ``lucidrains``: the quantizer of vector-quantize-pytorch (k-means start,
revival of codes) between our encoder and decoder. Each with the codebook's decay that its package has by default (MONAI
.5, lucidrains .8) and with a longer memory. Their quantization losses are their own. On a CPU, too, they compute in
float32, as both packages see to on a GPU: in bfloat16 a good part of the codes would be others. They are scored by the
same code as ours, at their last step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_tools.console import progress
from vqvae_dist.config import VQVAEConfig, VQVAEModelConfig
from vqvae_dist.config_io import to_json
from vqvae_dist.data.slices import TrainingSlices
from vqvae_dist.inference.load import LoadedVQVAE, inference_device
from vqvae_dist.models.vqvae import Decoder, Encoder, VQVAEOutput, halvings
from vqvae_dist.training.losses import vqvae_losses
from vqvae_dist.training.optim import lr_at


class Peer(nn.Module):
    """A public VQ-VAE that looks like ours to what scores it; sides must be multiples of the downsampling."""

    encoder: nn.Module
    decoder: nn.Module
    downsample: int

    def forward(self, images: Tensor) -> VQVAEOutput:
        """Reconstruct (B, 1, H, W); ``codebook`` holds the peer's own quantization loss."""
        reconstruction, codes, loss = self.quantized(images)
        return VQVAEOutput(reconstruction, codes, loss.new_zeros(()), loss, None, None)

    def quantized(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction, codes (B, h, w), loss."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> Tensor:
        """Codes of images."""
        return self(images).codes  # type: ignore[no-any-return]  # a module's call is Any


@contextmanager
def in_float32(z: Tensor) -> Iterator[Tensor]:
    """``z`` in float32, with autocast off."""
    with torch.autocast(z.device.type, enabled=False):
        yield z.float()


class MonaiPeer(Peer):
    """MONAI's VQVAE."""

    def __init__(self, config: VQVAEModelConfig, decay: float, *, exact: bool = True) -> None:
        """``exact``: quantize in float32 whatever autocast says; else as the package comes."""
        super().__init__()
        self.exact = exact
        from monai.networks.nets.vqvae import VQVAE

        self.downsample = config.downsample
        n = halvings(config.downsample)
        self.net = VQVAE(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            channels=(max(config.hidden // 2, 1),) * (n - 1) + (config.hidden,),
            num_res_layers=config.residual_layers,
            num_res_channels=(config.residual_hidden,) * n,
            downsample_parameters=((2, 4, 1, 1),) * n,
            upsample_parameters=((2, 4, 1, 1, 0),) * n,
            num_embeddings=config.codebook_size,
            embedding_dim=config.code_dim,
            decay=decay,
        )
        self.encoder, self.decoder = self.net.encoder, self.net.decoder

    def quantized(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As ``VQVAE.forward``, with the codes beside."""
        z = self.encoder(images)
        with in_float32(z) if self.exact else nullcontext(z) as z:
            z_q, loss, codes = self.net.quantizer.quantizer(z)
        return self.decoder(z_q), codes, loss


class LucidrainsPeer(Peer):
    """vector-quantize-pytorch in our networks."""

    def __init__(self, config: VQVAEModelConfig, decay: float) -> None:
        super().__init__()
        from vector_quantize_pytorch import VectorQuantize

        self.downsample = config.downsample
        shape = (config.hidden, config.residual_layers, config.residual_hidden, config.downsample, config.code_dim)
        self.encoder = Encoder(*shape, config.norm, config.stem)
        self.decoder = Decoder(*shape, config.norm, config.upsample)
        self.quantizer = VectorQuantize(
            dim=config.code_dim,
            codebook_size=config.codebook_size,
            decay=decay,
            commitment_weight=0.25,
            kmeans_init=True,
            threshold_ema_dead_code=2,
            accept_image_fmap=True,
        )

    def quantized(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode, quantize as images of features, decode."""
        with in_float32(self.encoder(images)) as z:
            z_q, codes, loss = self.quantizer(z)
        return self.decoder(z_q), codes, loss.sum()


PEERS: dict[str, Callable[[VQVAEModelConfig], Peer]] = {
    "monai_decay.5": lambda config: MonaiPeer(config, 0.5),
    "monai_decay.99": lambda config: MonaiPeer(config, 0.99),
    "lucidrains_decay.8": lambda config: LucidrainsPeer(config, 0.8),
    "lucidrains_decay.99": lambda config: LucidrainsPeer(config, 0.99),
}


def trained_peer(name: str, config: VQVAEConfig, run: Path, *, bf16: bool, compiled: bool) -> LoadedVQVAE:
    """Train a peer with our settings, or load what these settings trained in ``run``; ready to be scored."""
    device, weights, said = inference_device(), run / "peer.pt", run / "peer.json"
    settings = json.dumps({**to_json(config), "output_dir": "", "bf16": bf16, "compiled": compiled}, sort_keys=True)
    if not (said.is_file() and said.read_text() == settings):
        torch.manual_seed(config.seed)
        model = PEERS[name](config.model).to(device).to(memory_format=torch.channels_last)
        if compiled:
            model.encoder.compile(dynamic=False)
            model.decoder.compile(dynamic=False)
        fit(model, config, device, bf16=bf16, label=run.name)
        run.mkdir(parents=True, exist_ok=True)
        said.unlink(missing_ok=True)
        torch.save(model.state_dict(), weights)
        said.write_text(settings)
    model = PEERS[name](config.model).to(device).to(memory_format=torch.channels_last)  # uncompiled: other sizes come
    model.load_state_dict(torch.load(weights, weights_only=True))
    return LoadedVQVAE(model.eval().requires_grad_(False), device, config.model, description(config))  # type: ignore[arg-type]  # a peer looks like a VQVAE


def description(config: VQVAEConfig) -> dict[str, Any]:
    """What scoring asks about a model: whether these are the slices that it was trained on."""
    from data_tools.slicefile import SliceReader

    return {"data_digest": SliceReader(config.data.path).digest, "run_id": "peer", "weights_sha256": "0" * 64}


def peer_optimizer(model: nn.Module, config: VQVAEConfig) -> torch.optim.Optimizer:
    """Ours: the usual second moment lets the loss leap at the preset's learning rate."""
    return torch.optim.AdamW(
        model.parameters(), lr=config.optim.lr, betas=config.optim.betas, weight_decay=config.optim.weight_decay
    )


def fit(model: Peer, config: VQVAEConfig, device: torch.device, *, bf16: bool, label: str) -> None:
    """The suite's training step, without what is ours in it."""
    slices = TrainingSlices(
        config.data.path, config.data, seed=config.seed,
        batch_size=config.schedule.batch_size, rank=0, share=config.schedule.batch_size,
    )  # fmt: skip
    optimizer = peer_optimizer(model, config)
    steps = range(config.schedule.steps)
    model.train()
    for step in progress(steps, total=len(steps), label=label):
        batch = slices[step]
        images = batch.images.to(device)
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, config.optim, config.milestones, config.warmup)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            output = model(images)
        loss = vqvae_losses(images, output, config.loss, 0.0).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
