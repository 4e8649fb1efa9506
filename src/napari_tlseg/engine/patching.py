"""What a training needs to know whose encoder sees volumes."""

from __future__ import annotations

from collections.abc import Sequence

from napari_tlseg.engine.running import Material
from napari_tlseg.errors import InputError
from napari_tlseg.learn.volumes import Patch
from napari_tlseg.options import is_volumetric


def patch_for(encoder: str, materials: Sequence[Material]) -> tuple[Patch | None, tuple[str, ...]]:
    """What an encoder sees of all materials' volumes at a time, and a sentence about it; None where it sees planes.

    InputError where there are images of one plane.
    """
    if not is_volumetric(encoder):
        return None, ()
    parts = [material.parts for material in materials]
    cases = [case for part in parts for case in (*part.training, *part.validation, *part.held_out)]
    if flat := next((case for case in cases if case.geometry.plane_shape[0] == 1), None):
        reason = f"is a single image, and encoder {encoder} sees volumes"
        raise InputError(reason, flat.image, "choose an encoder of planes, such as --encoder unet")
    size = materials[0].size
    patch = Patch.fit([case for part in parts for case in part.training], size)
    return patch, (
        f"Volumes are seen in patches of {patch.depth} planes, as they were scanned, by {patch.side} × {patch.side} "
        f"pixels of planes of {size}.",
    )
