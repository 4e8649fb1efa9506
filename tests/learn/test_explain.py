"""Integrated gradients against their axiom and closed forms; changes of an image, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_tlseg.learn.explain import Answer, Attribution, answers, attribute, blacken, fill, perturb, strongest
from napari_tlseg.nets.classifier import Classifier
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.heads import make_localizer
from napari_tlseg.nets.unet import UNet


def asked(score: object) -> Answer:
    return Answer(name="a", score=score, confidence=lambda images: 0.0)  # type: ignore[arg-type]


def trained(model: torch.nn.Module) -> torch.nn.Module:
    """With statistics of images like those that it is asked about."""
    for _ in range(3):
        model(torch.rand(8, 1, 32, 32))
    return model.eval()


def test_of_a_linear_score_each_pixel_has_its_weight() -> None:
    weights, image = torch.randn(1, 2, 8, 8), torch.rand(1, 2, 8, 8)
    found = attribute(asked(lambda images: (images * weights).sum((1, 2, 3)) + 3), image, 2)
    torch.testing.assert_close(torch.from_numpy(found.values), (weights * image)[0].sum(0))
    assert found.missed == pytest.approx(0, abs=1e-5)


def test_of_a_product_the_closed_form() -> None:
    """Of x³y along the line t(x, y): ∂/∂x gives 3/4 of the difference to the x, 1/4 to the y."""
    image = torch.zeros(1, 1, 1, 2)
    image[..., 0], image[..., 1] = 0.7, 0.4
    found = attribute(asked(lambda images: images[:, 0, 0, 0] ** 3 * images[:, 0, 0, 1]), image, 50)
    difference = 0.7**3 * 0.4
    assert found.values.ravel() == pytest.approx([0.75 * difference, 0.25 * difference], rel=1e-5)
    assert found.difference == pytest.approx(difference)


@pytest.mark.parametrize("kind", ["unet", "three classes", "classifier", "regression", "heatmap"])
def test_attributions_add_up_to_the_difference_of_outputs(kind: str) -> None:
    """Completeness, with the 50 steps that are the default."""
    torch.manual_seed(0)
    encoder = make_encoder("unet", 1)
    makers = {
        "unet": lambda: UNet(encoder, 2),
        "three classes": lambda: UNet(encoder, 3),
        "classifier": lambda: Classifier(encoder, 2),
        "regression": lambda: make_localizer("regression", encoder, 32),
        "heatmap": lambda: make_localizer("heatmap", encoder, 32),
    }
    model, image = trained(makers[kind]()), torch.rand(1, 1, 32, 32)
    found = [
        attribute(each, image)
        for each in answers(model, image, ("background", "a", "b")[: 3 if "three" in kind else 2])
    ]
    assert [each.answer.name for each in found] == {
        "unet": ["a"],
        "three classes": ["a", "b"],
        "classifier": ["background", "a"],
    }.get(kind, ["y", "x"])
    for each in found:
        with torch.no_grad():
            expected = float(each.answer.score(image) - each.answer.score(torch.zeros_like(image)))
        assert each.difference == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert float(each.values.sum()) == pytest.approx(expected, abs=0.05 * max(abs(expected), 0.02))
        assert np.abs(each.values).max() > 0


def test_more_steps_miss_less() -> None:
    torch.manual_seed(0)
    model, image = trained(UNet(make_encoder("unet", 1), 2)), torch.rand(1, 1, 32, 32)
    (answer,) = answers(model, image, ("background", "a"))
    assert abs(attribute(answer, image, 200).missed) < abs(attribute(answer, image, 3).missed)


def test_the_score_of_a_class_is_of_the_pixels_where_it_was_found() -> None:
    class Bright(UNet):
        def forward(self, images: Tensor) -> Tensor:
            return 10 * (images - 0.5)

    image = torch.full((1, 1, 32, 32), 0.2)
    image[..., 4:8, 4:8] = 0.9
    (answer,) = answers(Bright(make_encoder("unet", 1), 2), image, ("background", "a"))
    assert answer.region is not None and answer.region(image).sum() == 16
    assert answer.score(image).item() == pytest.approx(4)
    assert answer.score(torch.zeros_like(image)).item() == pytest.approx(-5), "the pixels stay the same"
    assert answer.confidence(image) == pytest.approx(1 / (1 + np.exp(-4)), rel=1e-5)
    rows = {str(row["change"]): row for row in perturb(attribute(answer, image), image)}
    assert rows["filled from its surroundings"]["Dice"] == 0
    deleted = rows["the strongest 1% black"]
    assert deleted["Dice"] == pytest.approx(2 * 6 / (16 + 6)), "10 of the 16 are gone"
    assert deleted["before"] > 0.9 > deleted["after"]  # type: ignore[operator]


def test_the_strongest_are_as_many_as_asked_for() -> None:
    influence = np.arange(100, dtype=np.float32).reshape(10, 10)
    chosen = strongest(influence, 0.05)
    assert influence[chosen].tolist() == [95, 96, 97, 98, 99]
    assert strongest(np.zeros((10, 10), np.float32), 0.05).sum() == 5


def test_blackened_and_filled_pixels_and_no_others() -> None:
    where = np.zeros((16, 16), bool)
    where[6:9, 6:9] = True
    image = torch.full((1, 2, 16, 16), 0.4)
    image[..., 6:9, 6:9] = 1
    black = blacken(image, where)
    assert (black[0, :, where] == 0).all() and torch.equal(black[0, :, ~where], image[0, :, ~where])
    filled = fill(image, where)
    assert (filled - 0.4).abs().max() < 0.01, "the surroundings are all alike"
    assert torch.equal(filled[..., :4, :], image[..., :4, :])


def test_a_localizer_is_asked_where_not_how_much() -> None:
    torch.manual_seed(0)
    model, image = trained(make_localizer("regression", make_encoder("unet", 1), 32)), torch.rand(1, 1, 32, 32)
    y, _ = answers(model, image, ("background", "a"))
    rows = list(perturb(attribute(y, image, 5), image))
    assert len(rows) == 4 and all(row["Dice"] is None for row in rows)
    assert rows[0]["before"] == pytest.approx(float(model(image)[0, 0].detach()), rel=1e-5)


def test_an_attribution_is_plain() -> None:
    found = attribute(asked(lambda images: images.sum((1, 2, 3))), torch.ones(1, 3, 4, 4), 2)
    assert isinstance(found, Attribution) and found.values.shape == (4, 4) and found.values.dtype == np.float32
    assert found.difference == 48
