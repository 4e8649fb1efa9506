"""What a paper would say of a run or a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_tlseg.nets.checkpoint import Provenance
from napari_tlseg.studies.recommend import name


def methods(record: Mapping[str, Any], summary: Mapping[str, Any], provenance: Provenance | None) -> str:
    """A paragraph for its methods section; record: its job.json."""
    source, steps, batch = record.get("source", "none"), record["steps"], record["batch"]
    network = f"A U-Net with encoder {provenance.encoder}" if provenance else "A U-Net"
    size = f" on {provenance.size}² images (recipe {provenance.recipe})" if provenance else ""
    said = [f"{network} was trained{size} for {steps} steps of {batch} with Adam (learning rate"]
    said[0] += f" {record['learning_rate']:g}, seed {record['seed']})."
    if source != "none" or len(record.get("sources", ())) > 1:
        solver = "a proximal step in Adam's metric" if record["solver"] == "stable" else "its gradient, as published"
        said.append(
            "The encoder started from pretrained weights θ̄ and was held to them by the penalty λ Σ (θ − θ̄)² "
            f"(Sagie et al.), minimised by {solver}; at λ = ∞ it was frozen (Hu et al.)."
        )
    if "arms" in summary or "efficiency" in summary:
        said.append(f"Scores are of {record['folds']}-fold cross-validation by patient; the last weights were scored.")
    if "arms" in summary:
        said.append("λ was chosen by the one-standard-error rule on paired differences, towards the larger λ.")
    if "efficiency" in summary:
        said.append("λ of each fold was chosen on the other folds; p is of Wilcoxon's signed-rank test over patients.")
    if "lambda" in summary:
        said.append(
            f"λ was {name(float(summary['lambda']))}. {len(summary['training']['cases'])} cases were trained on, "
            f"{len(summary['validation']['cases'])} picked the weights, {summary['scored']} held-out ones were scored."
        )
    return " ".join([*said, "Dice is the mean over cases, on the native grid."])
