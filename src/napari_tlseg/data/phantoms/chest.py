"""Phantom chest CTs: tissues filled into the shapes of a thorax, with lung vessels, opacities and a scanner's noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_tlseg.data.case import Labels
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.phantoms.noise import Field, Random, smooth_noise_3d, smoothstep
from napari_tlseg.data.phantoms.thorax import HEIGHT, WIDTH, Build, Thorax

Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ChestPhantom:
    """A chest CT of which everything is known; stored as (k, j, i) of a NIfTI file."""

    image: NDArray[np.int16]
    """(Z, Y, X) HU; Z to the head, Y to the back, X to the patient's left."""
    mask: Labels
    """(Z, Y, X) 0 background, 1 lung, 2 infection: ground-glass opacity or consolidation."""
    spacing: tuple[float, float, float]
    """(Z, Y, X) mm."""
    affine: NDArray[np.float64]
    """(4, 4) voxel (i, j, k) to mm in RAS+."""

    @property
    def geometry(self) -> Geometry:
        return Geometry(shape=self.image.shape, spacing=self.spacing, unit="mm", affine=self.affine)


def chest_ct(
    seed: int | Sequence[int],
    shape: tuple[int, int, int] = (48, 128, 128),
    spacing: tuple[float, float, float] = (5.0, 3.0, 3.0),
    *,
    extent: float | None = None,
) -> ChestPhantom:
    """A thorax that fills the volume, whatever its shape, from below the diaphragm to the shoulders.

    `extent` says how much of the lungs is infected, 0 (healthy) to 1; drawn from the seed where it is not given.

    >>> chest_ct(1).image.shape
    (48, 128, 128)
    """
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(0.1, 0.9) if rng.random() < 0.75 else 0.0
    thorax = Thorax.sample(rng, Build.draw(rng), shape)
    voxel = WIDTH / shape[2]
    inside = (thorax.lung < 0) & (thorax.airway > 1.5)

    hu = _trunk(rng, thorax, shape, voxel)
    opacity, density = _infection(rng, thorax, inside, shape, drawn if extent is None else extent)
    hu = _lungs(rng, thorax, hu, voxel, opacity, density)
    image = _scan(rng, thorax, hu)
    mask = np.where(inside, np.where(opacity > 0.5, 2, 1), 0).astype(np.uint8)
    return ChestPhantom(image=image, mask=mask, spacing=spacing, affine=_affine(rng, shape, spacing))


def _affine(rng: Random, shape: tuple[int, ...], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Stored as L, P, S, the middle of the picture some millimetres off the scanner's axis."""
    z, y, x = spacing
    affine = np.diag([-x, -y, z, 1.0])
    middle = np.round(rng.normal((0, 0, -60), (6, 20, 25)), 2)
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return affine


def _fill(hu: Field, distance: Field, value: Field | float, soft: float) -> Field:
    """Put a tissue into a shape; a voxel that its border cuts gets a share of both."""
    return np.asarray(hu + (value - hu) * np.clip(0.5 - distance / soft, 0, 1), np.float32)


def _trunk(rng: Random, thorax: Thorax, shape: tuple[int, ...], voxel: float) -> Field:
    """All but the lungs: table, skin, fat, muscle, bones, abdomen, mediastinum."""
    build, soft = thorax.build, voxel
    texture = smooth_noise_3d(rng, shape, (1.0, 2.0, 2.0))
    hu = np.full(shape, -1000, np.float32)
    hu = _fill(hu, thorax.table, -150, soft)
    hu = _fill(hu, thorax.body, 10, soft)
    hu = _fill(hu, thorax.body + 2.5, -105, soft)
    muscle = np.maximum(thorax.body + build.fat, -thorax.cavity) + 2.2 * texture + 0.75 * _breast_fat(thorax)
    hu = _fill(hu, muscle, 52 + 8 * texture, soft)
    streaks = np.abs((thorax.body - thorax.cavity * 0.2 + 4 * texture) % 26 - 13) - 1.6
    hu = _fill(hu, np.maximum(np.maximum(streaks, 14 - thorax.cavity), thorax.body + build.fat), -60, soft)
    hu = _fill(hu, thorax.cavity - 3, 45, soft)
    hu = _abdomen(hu, thorax, texture, soft)
    hu = _mediastinum(hu, thorax, texture, soft)
    return _bones(hu, thorax, texture, soft)


def _breast_fat(thorax: Thorax) -> Field:
    """Breasts are mostly fat: push the muscle's border back there."""
    front = smoothstep(-thorax.y, 40, 90)
    return thorax.build.breast * front * np.exp(-(((np.abs(thorax.x) - 78) / 45) ** 2) - ((thorax.z - 105) / 45) ** 2)


def _abdomen(hu: Field, thorax: Thorax, texture: Field, soft: float) -> Field:
    below = np.maximum(thorax.cavity + 2, thorax.diaphragm + 2)
    hu = _fill(hu, below, -95 + 10 * texture, soft)
    blood = 0.35 * (thorax.build.blood - 40)
    liver = np.maximum(below, thorax.x - 34 + 0.25 * thorax.y)
    hu = _fill(hu, liver, 58 + blood + 3 * texture, soft)
    spleen = np.maximum(below + 3, np.hypot(thorax.x - 92, thorax.y - 36) - 40)
    hu = _fill(hu, spleen, 50 + blood, soft)
    stomach = np.maximum(below + 3, np.hypot(np.hypot(thorax.x - 58, thorax.y + 26), 0.8 * (thorax.z - 8)) - 42)
    hu = _fill(hu, stomach, 28 + 12 * texture, soft)
    return _fill(hu, np.maximum(stomach + 6, thorax.y + 44), -930, soft)


def _mediastinum(hu: Field, thorax: Thorax, texture: Field, soft: float) -> Field:
    blood = thorax.build.blood
    chest = np.maximum(thorax.cavity, -thorax.diaphragm)
    hu = _fill(hu, np.maximum(thorax.mediastinum - 3, chest), -70 + 45 * texture, soft)
    hu = _fill(hu, np.maximum(thorax.heart + 4, chest), 42, soft)
    hu = _fill(hu, np.maximum(thorax.heart + 13, chest), blood + 3 * texture, soft)
    hu = _fill(hu, np.maximum(np.hypot(thorax.x + 24, thorax.y + 14) - 9, 100 - thorax.z), blood, soft)
    trunk = np.hypot(np.hypot(thorax.y + 12, 0.9 * (thorax.z - 124)), 0.22 * thorax.x) - 13
    hu = _fill(hu, np.maximum(trunk, thorax.mediastinum), blood, soft)
    hu = _fill(hu, thorax.aorta, blood, soft)
    hu = _fill(hu, np.hypot(thorax.x - 8, thorax.y - thorax.spine + 26) - 6 + 0 * thorax.z, 35, soft)
    return hu


def _bones(hu: Field, thorax: Thorax, texture: Field, soft: float) -> Field:
    vertebrae, canal = thorax.vertebrae
    hu = _fill(hu, thorax.ribs - 1.5, 60, soft)
    for shape in (thorax.ribs, thorax.sternum, thorax.scapulae, thorax.clavicles, vertebrae):
        hu = _fill(hu, shape, 620, soft)
        hu = _fill(hu, shape + 3.2, 230 + 40 * texture, soft)
    hu = _fill(hu, thorax.disc, 95, soft)
    return _fill(hu, canal, 30, soft)


def _lungs(rng: Random, thorax: Thorax, hu: Field, voxel: float, opacity: Field, density: Field) -> Field:
    """Parenchyma, denser towards the back, then opacities, then what is drawn over them: vessels and bronchi."""
    shape = hu.shape
    air = rng.uniform(-890, -840) + 0.28 * thorax.y + 0.08 * (120 - thorax.z)
    air = air + 18 * smooth_noise_3d(rng, shape, (0.8, 1.5, 1.5)) + 12 * smooth_noise_3d(rng, shape, (2, 6, 6))
    tissue = air + (density - air) * opacity
    vessels, bronchi = (np.zeros(shape, np.float32) for _ in range(2))
    for side in (-1, 1):
        root = np.array((side * 34.0, 12.0, 122.0))
        vessels += _tree(rng, thorax, root, side, radius=4.8, branches=18)
        bronchi += _tree(rng, thorax, root, side, radius=4.0, branches=6, thinnest=1.5)
    tissue = tissue + (35 - tissue) * np.clip(vessels, 0, 1)
    tissue = tissue + (-960 - tissue) * np.clip(0.8 * bronchi, 0, 1)
    hu = _fill(hu, thorax.lung, tissue, voxel)
    wall = np.maximum(thorax.airway - 2.0, thorax.z - 238)
    return _fill(_fill(hu, wall, 30, voxel), thorax.airway, -985, voxel)


def _tree(
    rng: Random, thorax: Thorax, root: Points, side: int, *, radius: float, branches: int, thinnest: float = 0.55
) -> Field:
    """(Z, Y, X) share of each voxel that is vessel: tubes that fork, thinner by a fifth, until they leave the lung.

    Every generation is grown at once; tubes are sampled at random points, each carrying its part of the volume.
    """
    at, size = np.repeat(root[None], branches, 0), np.full(branches, radius)
    heading = rng.normal(0, 1, (branches, 3)) * (0.6, 1.0, 1.3) + (side * 0.7, -0.1, -0.1)
    share = np.zeros(thorax.lung.shape, np.float32)
    while len(at):
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        length = rng.uniform(2.5, 5.5, len(at)) * (size + 1.6)
        _splat(rng, share, at, heading, length, size)
        at = at + heading * length[:, None]
        size = np.repeat(size * rng.uniform(0.72, 0.84, len(at)), 2) * rng.uniform(0.8, 1.1, 2 * len(at))
        at, heading = np.repeat(at, 2, 0), np.repeat(heading, 2, 0) + rng.normal(0, 0.5, (2 * len(at), 3))
        alive = (size > thinnest) & (_at(thorax.lung, at) < 6)
        at, heading, size = at[alive], heading[alive], size[alive]
    return share


def _voxels(shape: tuple[int, ...], points: Points) -> NDArray[np.intp]:
    """(N, 3) z, y, x of points (x, y, z) in mm of the thorax, kept inside the volume."""
    scale = np.array((WIDTH / shape[2], WIDTH / shape[1], HEIGHT / shape[0]))
    index = np.floor((points + np.array((WIDTH / 2, WIDTH / 2, 0))) / scale).astype(np.intp)[:, ::-1]
    return np.asarray(np.clip(index, 0, np.array(shape) - 1), np.intp)


def _at(field: Field, points: Points) -> Field:
    return np.asarray(field[tuple(_voxels(field.shape, points).T)])


def _splat(rng: Random, share: Field, start: Points, heading: Points, length: Points, radius: Points) -> None:
    voxel = WIDTH * WIDTH * HEIGHT / share.size
    volume = np.pi * radius**2 * length / voxel
    samples = int(np.clip(8 * volume.mean(), 16, 500))
    count = len(start) * samples
    sideways = rng.normal(0, 1, (count, 3))
    along = np.repeat(heading, samples, 0)
    sideways -= along * (sideways * along).sum(1, keepdims=True)
    sideways *= (np.sqrt(rng.random(count)) * np.repeat(radius, samples) / np.linalg.norm(sideways, axis=1))[:, None]
    points = np.repeat(start, samples, 0) + along * (rng.random(count) * np.repeat(length, samples))[:, None] + sideways
    flat = np.ravel_multi_index(tuple(_voxels(share.shape, points).T), share.shape)
    share += np.bincount(flat, np.repeat(volume / samples, samples), share.size).reshape(share.shape).astype(np.float32)


def _infection(
    rng: Random, thorax: Thorax, inside: NDArray[np.bool_], shape: tuple[int, ...], extent: float
) -> tuple[Field, Field]:
    """(opacity 0..1, its HU): patches along the pleura, more of them low and at the back, some consolidated within."""
    patches = np.full(shape, -1.0, np.float32)
    candidates = np.argwhere(inside & (thorax.cavity > -18))
    axes = thorax.z, *thorax.scanner
    if extent > 0 and len(candidates):
        z, y = candidates[:, 0] / shape[0], candidates[:, 1] / shape[1]
        weight = np.exp(3.5 * (y - 0.5) - 1.5 * z)
        for centre in candidates[rng.choice(len(candidates), 3 + int(18 * extent), p=weight / weight.sum())]:
            away = sum((axis - axis.flat[at]) ** 2 for axis, at in zip(axes, centre, strict=True))
            patches = np.maximum(patches, 1 - np.sqrt(away) / rng.uniform(14, 24 + 24 * extent))
    ragged = (
        patches
        + 0.14 * smooth_noise_3d(rng, shape, (1.4, 3.0, 3.0))
        + 0.07 * smooth_noise_3d(rng, shape, (0.6, 1.0, 1.0))
    )
    opacity = smoothstep(ragged, 0.0, 0.34) * inside
    consolidated = smoothstep(ragged, 0.42, 0.75) * float(rng.choice((0.0, 0.6, 1.0)))
    ground_glass = rng.uniform(-640, -480) + 70 * smooth_noise_3d(rng, shape, (0.7, 1.1, 1.1))
    return opacity, ground_glass + (-20 - ground_glass) * consolidated


def _scan(rng: Random, thorax: Thorax, hu: Field) -> NDArray[np.int16]:
    """The scanner's blur and noise: stronger in the middle, streaked across the shoulders, blank out of its circle."""
    hu = gaussian_filter(hu, (0.0, 0.5, 0.5))
    grain = gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0.3, 0.55, 0.55)) * 2.2
    streaks = gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0, 0.5, 6)) * 5
    middle = np.exp(-((thorax.x / 150) ** 2) - (thorax.y / 110) ** 2)
    sigma = rng.uniform(7, 16)
    hu = hu + sigma * ((0.4 + 0.6 * middle) * grain + 1.5 * smoothstep(thorax.z, 190, 235) * middle * streaks)
    hu = np.where(np.hypot(*thorax.scanner) > WIDTH / 2, -1024, hu)
    return np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)
