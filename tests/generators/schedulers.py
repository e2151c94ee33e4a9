"""MONAI's scheduler of the rectified flow, as NV-Generate configures it."""

from __future__ import annotations

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
