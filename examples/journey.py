"""From clicks to masks on synthetic fundus photographs: python examples/journey.py [FOLDER] [STEPS]."""

import sys
import tempfile
from pathlib import Path

import napari_tlseg as tlseg
from napari_tlseg.data.phantoms import write_fundus

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="tlseg-"))
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 200

write_fundus(folder / "data", count=30)
source = tlseg.pretrain(folder / "data", folder / "clicks.safetensors", steps=steps)
run = tlseg.finetune(folder / "data", folder / "run", source.out, strength=1e-3, labels=6, steps=steps)
masks = tlseg.predict(folder / "data", run.out, folder / "masks")
scores = tlseg.score(masks.out, folder / "data")
print(f"Dice of {scores.summary['held-out']['dice_mean']:.3f} on held-out photographs; all is in {folder}")
