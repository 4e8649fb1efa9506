"""One image and a mask of it in a napari window: `python -m napari_tlseg.gui.show IMAGE MASK`."""

from __future__ import annotations

import sys
from pathlib import Path

import napari
from napari.layers import Layer

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.gui.canvas.layers import case_of, image_layer, labels_layer


def show(viewer: napari.Viewer, image: Path, mask: Path) -> None:
    """Add an image and, over it on the same place, a mask on its grid."""
    below = image_layer(image)
    case = case_of(below)
    assert case is not None
    for layer in (below, labels_layer(read_mask(case, 256, mask), below, f"{case.name} mask")):
        viewer.add_layer(Layer.create(*layer))


if __name__ == "__main__":
    show(napari.Viewer(), *map(Path, sys.argv[1:3]))
    napari.run()
