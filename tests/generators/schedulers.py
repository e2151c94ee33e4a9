"""MONAI's schedulers of the rectified flow and of DDPM, as NV-Generate configures them."""

from __future__ import annotations

from monai.networks.schedulers.ddpm import DDPMScheduler
from monai.networks.schedulers.rectified_flow import RFlowScheduler


def rflow_scheduler(steps: int, voxels: int) -> RFlowScheduler:
    """Set to so many steps for a latent of so many voxels."""
    scheduler = RFlowScheduler(
        num_train_timesteps=1000,
        use_discrete_timesteps=False,
        use_timestep_transform=True,
        sample_method="uniform",
        scale=1.4,
    )
    scheduler.set_timesteps(steps, input_img_size_numel=voxels)
    return scheduler


def ddpm_scheduler(steps: int) -> DDPMScheduler:
    """Set to so many steps."""
    scheduler = DDPMScheduler(
        num_train_timesteps=1000,
        schedule="scaled_linear_beta",
        beta_start=0.0015,
        beta_end=0.0195,
        clip_sample=False,
    )
    scheduler.set_timesteps(steps)
    return scheduler
