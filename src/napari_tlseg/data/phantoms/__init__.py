"""Synthetic fundus photographs and chest CTs, seeded: sample data, demo and pictures for the docs."""

from napari_tlseg.data.phantoms.chest import ChestPhantom, chest_ct
from napari_tlseg.data.phantoms.folders import write_chest, write_fundus
from napari_tlseg.data.phantoms.fundus import FundusPhantom, fundus

__all__ = ["ChestPhantom", "FundusPhantom", "chest_ct", "fundus", "write_chest", "write_fundus"]
