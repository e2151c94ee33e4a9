"""nnU-Net v2: its loader and its trainer draw cases by the plan."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nvgen_aug as nv
from nvgen_aug.errors import DataError
from tests.data.phantoms import LABELS
from tests.data.phantoms import RECIPE
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import synthetic

pytest.importorskip("nnunetv2", reason="nnU-Net is missing")

from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nvgen_aug.integrations.nnunet import BlendMixin
from nvgen_aug.integrations.nnunet import PlannedCases
from nvgen_aug.integrations.nnunet import Preparation

pytestmark = [
    # nnU-Net's and its parts' own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DATASET = {
    "labels": {"background": 0, "organ": 1, "lesion": 2},
    "channel_names": {"0": "CT"},
    "file_ending": ".nii.gz",
    "numTraining": 5,
}
SPACING = 2.0
EDGE = 16


def plans() -> dict[str, Any]:
    """What nnU-Net's planning would write for tiny images, with a tiny network."""
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    return {
        "continue_training": False,
        "dataset_name": "Dataset999_Tiny",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [SPACING] * 3,
        "original_median_shape_after_transp": [EDGE] * 3,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_3d_fullres",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": [EDGE] * 3,
                "median_image_size_in_voxels": [EDGE] * 3,
                "spacing": [SPACING] * 3,
                "normalization_schemes": ["ZScoreNormalization"],
                "use_mask_for_norm": [False],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": resampling,
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
                "batch_dice": False,
                "architecture": {
                    "network_class_name": (
                        "dynamic_network_architectures.architectures.unet.PlainConvUNet"
                    ),
                    "arch_kwargs": {
                        "n_stages": 3,
                        "features_per_stage": [4, 4, 8],
                        "conv_op": "torch.nn.modules.conv.Conv3d",
                        "kernel_sizes": [[3, 3, 3]] * 3,
                        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
                        "n_conv_per_stage": [1, 1, 1],
                        "n_conv_per_stage_decoder": [1, 1],
                        "conv_bias": True,
                        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                        "dropout_op": None,
                        "dropout_op_kwargs": None,
                        "nonlin": "torch.nn.LeakyReLU",
                        "nonlin_kwargs": {"inplace": True},
                    },
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
                },
            }
        },
    }


def preparation() -> Preparation:
    manager = PlansManager(plans())
    return Preparation(manager, manager.get_configuration("3d_fullres"), DATASET)


def case(number: int) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """A preprocessed real case; its number is the value of all its voxels."""
    data = np.full((1, EDGE, EDGE, EDGE), number, dtype=np.float32)
    segmentation = np.zeros(data.shape, dtype=np.int8)
    segmentation[0, 4:8, 4:8, 4:8] = 1
    places = np.argwhere(segmentation == 1)
    return data, segmentation, {"class_locations": {1: places, 2: []}, "spacing": [SPACING] * 3}


class Real(nnUNetBaseDataset):  # type: ignore[misc]
    """Five such cases."""

    def __init__(self) -> None:
        super().__init__("", [str(number) for number in range(5)])

    def load_case(self, identifier: str) -> Any:
        data, segmentation, properties = case(int(identifier))
        return data, segmentation, None, properties

    @staticmethod
    def save_case(*arguments: Any) -> None:
        raise NotImplementedError

    @staticmethod
    def get_identifiers(folder: str) -> list[str]:
        raise NotImplementedError


def planned(ratio: float = 0.3, **arguments: Any) -> PlannedCases:
    return PlannedCases(Real(), synthetic(), preparation(), ratio=ratio, batch_size=4, **arguments)


def is_synthetic(image: torch.Tensor) -> bool:
    return float(image.std()) > 0


def test_batches_of_nnunets_loader_hold_the_share_and_each_real_case_once_a_pass() -> None:
    labels = PlansManager(plans()).get_label_manager(DATASET)
    loader = nnUNetDataLoader(planned(), 4, (EDGE,) * 3, (EDGE,) * 3, labels, 0.33)
    batches = [next(loader)["data"] for _ in range(10)]
    counts = [sum(map(is_synthetic, batch)) for batch in batches]
    assert all(math.floor(1.2 * n) <= sum(counts[:n]) <= math.ceil(1.2 * n) for n in range(1, 11))
    real = [float(image.mean()) for batch in batches for image in batch if not is_synthetic(image)]
    assert len(real) == 28
    for first in range(0, 25, 5):
        assert sorted(real[first : first + 5]) == [0, 1, 2, 3, 4]


def test_a_synthetic_case_is_preprocessed_by_nnunet_and_says_where_classes_are() -> None:
    volumes = synthetic()
    item = volumes[0]
    data, segmentation, before, properties = preparation()(item)
    assert before is None
    assert abs(float(data.mean())) < 1e-4  # z-score
    assert set(properties["class_locations"]) == {1, 2}
    # nnU-Net cuts away what is 0 all around.
    box = (slice(None), *(slice(*edges) for edges in properties["bbox_used_for_cropping"]))
    expected = item["label"].numpy().transpose(0, 3, 2, 1)[box]
    assert data.shape == segmentation.shape == expected.shape
    for identity in (1, 2):
        assert np.array_equal(segmentation == identity, expected == identity)
        for place in properties["class_locations"][identity]:
            assert expected[tuple(place)] == identity


def test_processes_share_the_plan_and_a_resumed_training_goes_on_in_it() -> None:
    whole, resumed = planned(), planned(first_batch=2)
    keys = [whole._begin_batch() for _ in range(3)]
    assert keys[2] == resumed._begin_batch()
    assert [key for batch in keys for key in batch] == [
        key for batch in range(3) for key in whole.plan.keys(0, batch)
    ]


class Blended(BlendMixin):
    """Half of its cases are synthetic."""

    ratio = 0.5
    source: nv.VolumeSource = PhantomSource()

    def make_synthetic(self) -> nv.SyntheticDataset:
        return nv.SyntheticDataset(self.source, RECIPE, labels=LABELS)

    def get_tr_and_val_datasets(self) -> Any:
        self.cases, self.valid = super().get_tr_and_val_datasets()
        return self.cases, self.valid


def trainer(folder: Path, monkeypatch: pytest.MonkeyPatch, processes: int) -> Blended:
    """A trainer of five preprocessed cases on disk, for two iterations on the CPU."""
    monkeypatch.setenv("nnUNet_preprocessed", str(folder))
    monkeypatch.setenv("nnUNet_results", str(folder / "results"))
    monkeypatch.setenv("nnUNet_n_proc_DA", str(processes))
    cases = folder / "Dataset999_Tiny" / "nnUNetPlans_3d_fullres"
    cases.mkdir(parents=True)
    (cases.parent / "dataset_fingerprint.json").write_text(json.dumps({}))
    whole = (1, EDGE, EDGE, EDGE)
    for number in range(5):
        data, segmentation, properties = case(number)
        # nnU-Net's own augmentation divides by the spread of an image.
        data += np.random.default_rng(number).normal(size=data.shape).astype(np.float32)
        nnUNetDatasetBlosc2.save_case(
            data, segmentation, properties, str(cases / f"case{number}"), chunks=whole, blocks=whole
        )
    found = Blended(plans(), "3d_fullres", 0, dict(DATASET), torch.device("cpu"))
    found.num_epochs, found.num_iterations_per_epoch, found.num_val_iterations_per_epoch = 1, 2, 1
    return found


def test_a_trainer_trains_on_real_and_synthetic_cases_and_validates_on_real_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PhantomSource()
    monkeypatch.setattr(Blended, "source", source)
    blended = trainer(tmp_path, monkeypatch, processes=0)
    blended.run_training()
    drawn = blended.cases._next_batch.value
    assert drawn == 3  # one to begin with, and one for each iteration
    assert len(source.fetched) == drawn
    assert isinstance(blended.valid, nnUNetDatasetBlosc2)
    assert math.isfinite(blended.logger.get_value("train_losses", step=0))


@pytest.mark.slow
def test_a_trainer_with_processes_of_its_own_asks_a_resident_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nv.serve("phantom") as source:
        monkeypatch.setattr(Blended, "source", source)
        blended = trainer(tmp_path, monkeypatch, processes=2)
        blended.run_training()
        assert source.stats().fetched >= 3


def test_images_of_several_channels_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blended = trainer(tmp_path, monkeypatch, processes=0)
    blended.initialize()
    blended.num_input_channels = 2
    with pytest.raises(DataError, match="one channel, this dataset has 2"):
        blended.get_tr_and_val_datasets()
