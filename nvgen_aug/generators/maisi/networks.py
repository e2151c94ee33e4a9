"""Networks: the autoencoder, built here, and the flow networks, built by MONAI.

The autoencoder is MAISI's, key for key, with plain group norms and convolutions: it needs no GPU,
no half precision and no slicing of convolutions, and its decoder tells the statistics of its norms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.networks.blocks.activation import Swish
from monai.networks.blocks.selfattention import SABlock
from torch import nn

from .decoder import Decoder
from .encoder import Encoder
from .layers import Kernel
from .variants import AutoencoderShape
from .variants import FlowShape


@final
class Autoencoder(nn.Module):
    """A variational autoencoder: 4x smaller per axis, 4 latent channels.

    Args:
        widths: Channels of the levels, finest first.
        groups: Groups of every norm; must divide every width.
        latent: Latent channels.
        eps: Added to variances.
    """

    def __init__(
        self, widths: Sequence[int], groups: int, *, latent: int = 4, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.encoder = Encoder(latent, widths, groups, eps)
        self.decoder = Decoder(latent, widths, groups, eps)
        self.quant_conv_mu = Kernel(latent, latent, 1, padding=0)
        self.quant_conv_log_sigma = Kernel(latent, latent, 1, padding=0)
        self.post_quant_conv = Kernel(latent, latent, 1, padding=0)

    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the latent, each `[B, 4, x, y, z]`."""
        h = self.encoder(image)
        log_variance = self.quant_conv_log_sigma(h).clamp(-30.0, 20.0)
        return self.quant_conv_mu(h), torch.exp(0.5 * log_variance)

    def decode(self, latent: torch.Tensor, statistics: torch.Tensor | None = None) -> torch.Tensor:
        """The image of a latent, `[B, 1, X, Y, Z]` in network units.

        Args:
            latent: `[B, 4, x, y, z]`.
            statistics: `[norms, groups, 2]`, mean and variance that the norms must use instead of
                their own.
        """
        norms = self.decoder.norms()
        try:
            if statistics is not None:
                for norm, given in zip(norms, statistics, strict=True):
                    norm.given = given
            image: torch.Tensor = self.decoder(self.post_quant_conv(latent))
        finally:
            for norm in norms:
                norm.given = None
        return image

    def decode_with_statistics(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image of one latent `[1, 4, x, y, z]`; float32 statistics `[norms, groups, 2]`."""
        watched: list[torch.Tensor] = []
        norms = self.decoder.norms()
        for norm in norms:
            norm.watched = watched
        try:
            image = self.decode(latent)
        finally:
            for norm in norms:
                norm.watched = None
        return image, torch.stack(watched)


def build_autoencoder(shape: AutoencoderShape) -> Autoencoder:
    """An autoencoder with random weights."""
    return Autoencoder(shape.widths, shape.groups, latent=shape.latent)


@final
class FlowUNet(DiffusionModelUNetMaisi):
    """The family's UNet, which can also be trained together with its ControlNet.

    The original adds the ControlNet's residuals in place, to tensors that its own backward pass
    still needs. The last of these tensors is also what the middle block reads, so there the sum has
    to arrive too.
    """

    def _apply_down_blocks(
        self,
        h: torch.Tensor,
        emb: torch.Tensor,
        context: torch.Tensor | None,
        down_block_additional_residuals: Sequence[torch.Tensor] | None,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        h, samples = super()._apply_down_blocks(h, emb, context, None)  # type: ignore[no-untyped-call]
        if down_block_additional_residuals is None:
            return h, samples
        sums = [a + b for a, b in zip(samples, down_block_additional_residuals, strict=True)]
        return sums[-1], sums


def build_flow(shape: FlowShape, latent: int) -> nn.Module:
    """The flow's UNet with random weights."""
    network: nn.Module = FlowUNet(
        spatial_dims=3,
        in_channels=latent,
        out_channels=latent,
        num_channels=shape.channels,
        attention_levels=shape.attention,
        num_head_channels=shape.head_channels,
        num_res_blocks=shape.residual_blocks,
        norm_num_groups=shape.norm_groups,
        num_class_embeds=shape.class_embeds,
        resblock_updown=True,
        include_fc=True,
        include_spacing_input=True,
    )
    _attend_in_one_pass(network)
    return network


def build_control(shape: FlowShape, latent: int) -> nn.Module:
    """The ControlNet with random weights."""
    network: nn.Module = ControlNetMaisi(
        spatial_dims=3,
        in_channels=latent,
        num_channels=shape.channels,
        attention_levels=shape.attention,
        num_head_channels=shape.head_channels,
        num_res_blocks=shape.residual_blocks,
        norm_num_groups=shape.norm_groups,
        num_class_embeds=shape.class_embeds,
        resblock_updown=True,
        include_fc=True,
        conditioning_embedding_in_channels=shape.mask_bits,
        conditioning_embedding_num_channels=shape.condition_channels,
        use_checkpointing=False,
    )
    for module in network.modules():
        if isinstance(getattr(module, "A", None), Swish):
            module.A = nn.SiLU()  # the same function, in one pass over memory
    _attend_in_one_pass(network)
    return network


def _attend_in_one_pass(network: nn.Module) -> None:
    """Without the matrix of all pairs of voxels, which at 128 cubed would not fit anywhere.

    MONAI's argument for it refuses to work on a processor, where torch has such a pass as well.
    """
    for module in network.modules():
        if isinstance(module, SABlock):
            module.use_flash_attention = True
