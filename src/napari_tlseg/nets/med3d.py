"""Med3D: MONAI's 3-D ResNets as encoders, and the weights that MedicalNet published for them.

References
----------
.. [1] Chen, Ma and Zheng, "Med3D: transfer learning for 3D medical image analysis", arXiv:1904.00625, 2019.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download
from monai.networks.nets.resnet import ResNetFeatures
from torch import Tensor
from torch.nn import functional as F


class Med3DBody(ResNetFeatures):  # type: ignore[misc]
    """Volume (B, C, Z, Y, X) to features at strides 2, 4, 8, 16, 32 along every axis; 3×3×3 kernels.

    Shapes and names of the weights are those of MedicalNet [1]_, whose two last stages are dilated instead of strided:
    MONAI's are not, and much cheaper for it. Where a stage of resnet18 or resnet34 widens, its shortcut has no
    weights; MONAI's own lets no gradient through there, this one does.
    """

    def __init__(self, depth: int, in_channels: int) -> None:
        super().__init__(f"resnet{depth}", pretrained=False, in_channels=in_channels)

    def _downsample_basic_block(self, x: Tensor, planes: int, stride: int, spatial_dims: int = 3) -> Tensor:
        taken = x[:, :, ::stride, ::stride, ::stride]
        return F.pad(taken, (0, 0) * spatial_dims + (0, planes - x.shape[1]))


def medicalnet(depth: int) -> Path:
    """The file of weights that learned from 23 data sets, downloaded once; any error where it cannot be had."""
    repository, file = f"TencentMedicalNet/MedicalNet-Resnet{depth}", f"resnet_{depth}_23dataset.pth"
    return Path(hf_hub_download(repo_id=repository, filename=file))
