"""Networks: the autoencoder, built here, and the flow networks, built by MONAI.

The autoencoder is MAISI's, key for key, with plain group norms and convolutions: it needs no GPU,
no half precision and no slicing of convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from functools import cache
from types import MappingProxyType
from typing import final

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.networks.blocks.activation import Swish
from monai.networks.blocks.crossattention import CrossAttentionBlock
from monai.networks.blocks.selfattention import SABlock
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import nn

from .decoder import Decoder
from .encoder import Encoder
from .image_reader import ImageReader
from .layers import Kernel
from .releases import AUTOENCODER
from .releases import CONTROL
from .releases import FLOW
from .releases import MASK_AUTOENCODER
from .releases import MASK_FLOW
from .shapes import AutoencoderShape
from .shapes import FlowShape
from .shapes import MaskModelShape
from .variants import Variant


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
        return self.moments(self.encoder(image))

    def moments(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation, given what the encoder makes of an image."""
        log_variance = self.quant_conv_log_sigma(features).clamp(-30.0, 20.0)
        return self.quant_conv_mu(features), torch.exp(0.5 * log_variance)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The image `[B, 1, X, Y, Z]` of a latent `[B, 4, x, y, z]`, undivided, for training."""
        image: torch.Tensor = self.decoder(self.post_quant_conv(latent))
        return image

    def decode_with_statistics(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `decode`, of one latent, and float32 statistics `[norms, groups, 2]`, in one graph.

        For engines; `Codec` decodes whatever the size.
        """
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
        resblock_updown=shape.residual_resampling,
        include_fc=shape.attention_projection,
        include_spacing_input=True,
        include_top_region_index_input=shape.body_region,
        include_bottom_region_index_input=shape.body_region,
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
        resblock_updown=shape.residual_resampling,
        include_fc=shape.attention_projection,
        conditioning_embedding_in_channels=shape.mask_bits,
        conditioning_embedding_num_channels=shape.condition_channels,
        use_checkpointing=False,
    )
    for module in network.modules():
        if isinstance(getattr(module, "A", None), Swish):
            module.A = nn.SiLU()  # the same function, in one pass over memory
    _attend_in_one_pass(network)
    return network


def build_image_control(shape: FlowShape, latent: int) -> nn.Module:
    """The ControlNet that follows a given image, with random weights.

    Its condition is `image_condition`, which is as small as the latent, where a mask has to be made
    smaller first.
    """
    assert shape.image_channels is not None
    network = build_control(shape, latent)
    network.controlnet_cond_embedding = ImageReader(
        3 * latent, shape.image_channels, shape.image_blocks, shape.norm_groups, shape.channels[0]
    )
    return network


def build_mask_autoencoder(shape: MaskModelShape) -> nn.Module:
    """The autoencoder of masks with random weights: bit planes in, one channel a label out."""
    network: nn.Module = AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=shape.bits,
        out_channels=shape.classes,
        latent_channels=shape.latent[0],
        num_channels=shape.widths,
        num_res_blocks=shape.blocks,
        norm_num_groups=shape.groups,
        norm_eps=1e-6,
        attention_levels=tuple(False for _ in shape.widths),
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
        use_convtranspose=True,
        # Upstream's slices and half-precision norms spare a GPU's memory, and need a GPU.
        norm_float16=False,
        num_splits=1,
        dim_split=1,
        save_mem=False,
    )
    return network


@final
class MaskDecoder(nn.Module):
    """The half of the autoencoder of masks that draws: a latent to a channel for each label.

    Its keys are those of the whole, and so are its numbers; unlike MONAI's it runs in pieces.
    """

    def __init__(self, shape: MaskModelShape) -> None:
        super().__init__()
        latent = shape.latent[0]
        self.post_quant_conv = Kernel(latent, latent, 1, padding=0)
        self.decoder = Decoder(
            latent,
            shape.widths,
            shape.groups,
            1e-6,
            outputs=shape.classes,
            blocks=shape.blocks,
            is_transposed=True,
        )

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        channels: torch.Tensor = self.decoder(self.post_quant_conv(latent))
        return channels


def build_mask_flow(shape: MaskModelShape) -> nn.Module:
    """The UNet that draws latents of masks from a vector of sizes, with random weights."""
    network: nn.Module = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=shape.latent[0],
        out_channels=shape.latent[0],
        channels=shape.channels,
        attention_levels=shape.attention,
        num_head_channels=shape.head_channels,
        num_res_blocks=2,
        norm_num_groups=shape.norm_groups,
        with_conditioning=True,
        cross_attention_dim=shape.context,
        upcast_attention=True,
    )
    _attend_in_one_pass(network)
    return network


def build_networks(variant: Variant) -> dict[str, nn.Module]:
    """All networks of a variant, by the names under which weights are kept, without weights.

    They lie on the meta device: they cost no memory before weights come.
    """
    latent, masks = variant.autoencoder.latent, variant.mask_model
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            AUTOENCODER: build_autoencoder(variant.autoencoder),
            FLOW: build_flow(variant.flow, latent),
        }
        if variant.has_control:
            networks[CONTROL] = build_control(variant.flow, latent)
        if masks is not None:
            networks[MASK_AUTOENCODER] = build_mask_autoencoder(masks)
            networks[MASK_FLOW] = build_mask_flow(masks)
    return networks


def tensors_of(variant: Variant, network: str) -> Mapping[str, torch.Tensor]:
    """The tensors that a network of a variant has, on the meta device: names and shapes alone."""
    masks = variant.mask_model
    if network in (MASK_AUTOENCODER, MASK_FLOW):
        assert masks is not None
        build = build_mask_autoencoder if network == MASK_AUTOENCODER else build_mask_flow
        return _tensors(build, masks)
    if network == AUTOENCODER:
        return _tensors(build_autoencoder, variant.autoencoder)
    build_trunk = build_flow if network == FLOW else build_control
    return _tensors(build_trunk, variant.flow, variant.autoencoder.latent)


@cache
def _tensors(build: Callable[..., nn.Module], *shape: object) -> Mapping[str, torch.Tensor]:
    with torch.device("meta"):
        return MappingProxyType(build(*shape).state_dict())


def _attend_in_one_pass(network: nn.Module) -> None:
    """Without the matrix of all pairs of voxels, which at 128 cubed would not fit anywhere.

    MONAI's argument for it refuses to work on a processor, where torch has such a pass as well.
    """
    for module in network.modules():
        if isinstance(module, SABlock | CrossAttentionBlock):
            module.use_flash_attention = True
