"""Mitsuba 3 behind one function: a scene and a view in, radiance and exact label passes out.

The scene is loaded once and rendered twice: the picture with the path tracer, and the labels with one ray
through the centre of each pixel (box filter, stratified sampler without jitter), since averaged ids are wrong.
`load_dict` merges meshes unless told not to, and its depth is ray length, so depth comes from positions.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError, Rejected
from synthaug.render import variants
from synthaug.render.scene import Body, Float32, Float64, Material, Panel, Scene, View

_AOVS = "position:position,normal:sh_normal,flat:geo_normal,uv:uv,shape:shape_index,albedo:albedo"
_FOOTPRINT = "shape:shape_index,albedo:albedo"
_TO_MITSUBA = np.diag([-1.0, -1.0, 1.0])
"""Between OpenCV camera axes (x right, y down) and Mitsuba's (x left, y up); its own inverse."""
_BLOCK = 32
"""Image block of the scalar variants, pixels; left to itself it shrinks with the thread count and moves bytes."""
_DEPTH = 6
_lock = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """What came back, in the conventions of the house, at the size of the view.

    Attributes:
        radiance: [H, W, 3] linear.
        bodies: [H, W] int32, place of the body in the scene from 1, 0 where the ray hit nothing.
        position: [H, W, 3] camera axes, metres, NaN where nothing was hit; its z is planar depth.
        normals: [H, W, 3] unit, camera axes, towards the camera, NaN likewise.
        uv: [H, W, 2], NaN likewise.
        albedo: [H, W, 3] linear in [0, 1], 0 likewise; at the pixel centre, or where `coverage` is measured the mean
            over that share of the pixel.
        coverage: [H, W] share of the pixel that shows the body at its centre; None where it was not asked for.
    """

    radiance: Float32
    bodies: NDArray[np.int32]
    position: Float32
    normals: Float32
    uv: Float32
    albedo: Float32
    coverage: Float32 | None = None


def render(scene: Scene, view: View, *, samples: int, denoise: bool, variant: str, coverage: int = 0) -> Rendered:
    """Renders one view. Thread-safe, one at a time; the last two scenes stay loaded for their other views.

    Equal arguments give equal bytes on one machine, in any order and process. About 1.5 s of CPU for 256x256
    at 16 samples per pixel with `scalar_rgb`.

    Args:
        samples: Per pixel, from 1; rounded up by the sampler to a product of two near factors.
        denoise: With Open Image Denoise.
        variant: As `variants.resolve` gives it.
        coverage: Rays along each side of a pixel that measure `coverage` and `albedo`, 0 for none; 4 cost as much
            as 2 samples per pixel with LLVM and 16 with `scalar_rgb`.

    Raises:
        ConfigError: Mitsuba or the denoiser is not installed.
        Rejected: Reason `nonfinite`, for a picture with NaN or infinite pixels.
    """
    with _lock:
        mi = variants.activate(variant)
        loaded = _load(scene, variant)
        radiance = _picture(mi, loaded, view, samples)
        layers = _layers(mi, loaded, view)
        indices = _body_indices(mi, loaded, layers.pop("shape")[..., 0], len(scene.bodies))
        share = None
        if coverage:
            fine = _layers(mi, loaded, view, _FOOTPRINT, coverage)
            ids = _body_indices(mi, loaded, fine["shape"][..., 0], len(scene.bodies))
            share, layers["albedo"] = _footprint(indices, layers["albedo"], ids, fine["albedo"], coverage)
    if not np.isfinite(radiance).all():
        raise Rejected("nonfinite", f"{int((~np.isfinite(radiance)).sum())} values of the render are not finite")
    rendered = replace(_in_camera_axes(view, radiance, indices, layers), coverage=share)
    return _denoised(rendered) if denoise else rendered


@lru_cache(maxsize=2)
def _load(scene: Scene, variant: str) -> Any:
    mi: Any = variants.activate(variant)
    parts: dict[str, Any] = {"type": "scene"}
    surfaces = {material: mi.load_dict(_bsdf(mi, material)) for material in {b.material: 0 for b in scene.bodies}}
    for index, body in enumerate(scene.bodies):
        parts[f"body{index:05d}"] = _mesh(mi, body, surfaces[body.material], index)
    for index, panel in enumerate(scene.panels):
        parts[f"panel{index}"] = _panel(mi, panel)
    upright = mi.ScalarTransform4f().rotate([1, 0, 0], 90)
    sky = mi.Bitmap(np.ascontiguousarray(scene.sky.paint()))
    parts["sky"] = {"type": "envmap", "bitmap": sky, "to_world": upright}
    return mi.load_dict(parts, optimize=False)


def _mesh(mi: Any, body: Body, surface: Any, index: int) -> Any:
    mesh = body.shape.build()
    matrix = np.asarray(body.pose)
    properties = mi.Properties()
    properties["mesh_bsdf"] = surface
    sizes = {"vertex_count": len(mesh.vertices), "face_count": len(mesh.faces)}
    layout = {"has_vertex_normals": True, "has_vertex_texcoords": True}
    shape = mi.Mesh(f"body{index:05d}", **sizes, props=properties, **layout)
    parameters = mi.traverse(shape)
    parameters["vertex_positions"] = _flat(mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3])
    parameters["vertex_normals"] = _flat(mesh.normals @ matrix[:3, :3].T)
    parameters["vertex_texcoords"] = _flat(mesh.uv)
    parameters["faces"] = mesh.faces.ravel()
    parameters.update()
    return shape


def _flat(values: Float64) -> Float32:
    return np.ascontiguousarray(values, dtype=np.float32).ravel()


def _bsdf(mi: Any, material: Material) -> dict[str, Any]:
    texture = {
        "type": "bitmap",
        "bitmap": mi.Bitmap(np.ascontiguousarray(material.texture.paint())),
        "raw": True,
        "to_uv": mi.ScalarTransform3f(np.array([*material.tiling, (0.0, 0.0, 1.0)])),
    }
    if material.roughness is None:
        return {"type": "diffuse", "reflectance": texture}
    coat = {"distribution": "ggx", "alpha": material.roughness, "int_ior": 1.5, "nonlinear": True}
    return {"type": "roughplastic", "diffuse_reflectance": texture, **coat}


def _panel(mi: Any, panel: Panel) -> dict[str, Any]:
    to_world = mi.ScalarTransform4f(np.asarray(panel.pose)) @ mi.ScalarTransform4f().scale(panel.side / 2)
    emitter = {"type": "area", "radiance": {"type": "rgb", "value": list(panel.radiance)}}
    return {"type": "rectangle", "to_world": to_world, "emitter": emitter, "bsdf": {"type": "diffuse"}}


def _sensor(mi: Any, view: View, sampler: dict[str, Any], rays: int = 1) -> Any:
    """A camera, with `rays` by `rays` pixels where the view has one."""
    height, width = (side * rays for side in view.size)
    to_camera = _extrinsics(view)
    to_camera[:3] = _TO_MITSUBA @ to_camera[:3]
    film = {"type": "hdrfilm", "width": width, "height": height, "pixel_format": "rgb", "rfilter": {"type": "box"}}
    pinhole = {
        "type": "perspective",
        "fov_axis": "x",
        "fov": float(np.degrees(2 * np.arctan(view.size[1] / 2 / view.camera.K[0, 0]))),
        "near_clip": 0.01,
        "far_clip": 1000.0,
        "to_world": mi.ScalarTransform4f(np.linalg.inv(to_camera)),
    }
    return mi.load_dict({**pinhole, "film": film, "sampler": sampler})


def _extrinsics(view: View) -> Float64:
    matrix = view.camera.world_to_camera
    if matrix is None:
        raise ConfigError(f"view {view.name} has a camera without extrinsics; a scene needs to know where it stands")
    return matrix


def _picture(mi: Any, scene: Any, view: View, samples: int) -> Float32:
    sensor = _sensor(mi, view, {"type": "multijitter", "sample_count": samples})
    integrator = mi.load_dict({"type": "path", "max_depth": _DEPTH, "block_size": _BLOCK})
    # The full 32 bits of a seed are not needed, and the parameter is unsigned.
    image = mi.render(scene, sensor=sensor, integrator=integrator, spp=samples, seed=view.noise_seed & 0x7FFFFFFF)
    return np.array(image, dtype=np.float32)[..., :3]


def _layers(mi: Any, scene: Any, view: View, aovs: str = _AOVS, rays: int = 1) -> dict[str, Float32]:
    """AOVs by name, each [H * rays, W * rays, channels]."""
    sensor = _sensor(mi, view, {"type": "stratified", "jitter": False, "sample_count": 1}, rays)
    integrator = mi.load_dict({"type": "aov", "aovs": aovs, "block_size": _BLOCK})
    image = np.array(mi.render(scene, sensor=sensor, integrator=integrator, spp=1, seed=0), dtype=np.float32)
    names = [name.rsplit(".", 1)[0] for name in integrator.aov_names()]
    image = image[..., -len(names) :]
    return {layer: image[..., [k for k, n in enumerate(names) if n == layer]] for layer in dict.fromkeys(names)}


def _footprint(
    bodies: NDArray[np.int32], albedo: Float32, fine_bodies: NDArray[np.int32], fine_albedo: Float32, rays: int
) -> tuple[Float32, Float32]:
    """Share of each pixel that shows the body at its centre, [H, W], and the mean albedo of that part, [H, W, 3]."""
    height, width = bodies.shape
    own = fine_bodies.reshape(height, rays, width, rays) == bodies[:, None, :, None]
    count = own.sum(axis=(1, 3), dtype=np.float32)
    total = (fine_albedo.reshape(height, rays, width, rays, 3) * own[..., None]).sum(axis=(1, 3))
    mean = np.where(count[..., None] > 0, total / np.maximum(count, 1)[..., None], albedo)
    return count / np.float32(rays * rays), mean.astype(np.float32)


def _body_indices(mi: Any, scene: Any, shape: Float32, bodies: int) -> NDArray[np.int32]:
    """Shape indices of Mitsuba to places in the scene: 1-based places in scalar, registry ids when vectorised."""
    import drjit as dr

    reinterpret: Any = dr.reinterpret_array
    scalar = str(mi.variant()).startswith("scalar")
    table = {
        place if scalar else int(reinterpret(mi.UInt32, mi.ShapePtr(item))[0]): str(item.id())
        for place, item in enumerate(scene.shapes(), start=1)
    }
    raw = np.rint(shape).astype(np.int64)
    out = np.zeros(raw.shape, dtype=np.int32)
    for value in np.unique(raw[raw > 0]):
        name = table.get(int(value), "")
        out[raw == value] = int(name[4:]) + 1 if name.startswith("body") else 0
    if int(out.max(initial=0)) > bodies:
        raise Rejected("label", f"the renderer names body {int(out.max())} of a scene with {bodies}")
    return out


def _in_camera_axes(view: View, radiance: Float32, bodies: NDArray[np.int32], layers: dict[str, Float32]) -> Rendered:
    extrinsics = _extrinsics(view)
    rotation, offset = extrinsics[:3, :3], extrinsics[:3, 3]
    nothing = (bodies == 0)[..., None]
    position = layers["position"].astype(np.float64) @ rotation.T + offset
    smooth, flat = (_unit(layers[name].astype(np.float64) @ rotation.T) for name in ("normal", "flat"))
    flat = np.where((flat * position).sum(-1, keepdims=True) > 0, -flat, flat)
    # Interpolated normals can turn away from the camera at a silhouette; the true facet cannot.
    normals = np.where((smooth * position).sum(-1, keepdims=True) < 0, smooth, flat)
    return Rendered(
        radiance,
        bodies,
        np.where(nothing, np.nan, position).astype(np.float32),
        np.where(nothing, np.nan, normals).astype(np.float32),
        np.where(nothing, np.nan, layers["uv"]).astype(np.float32),
        np.where(nothing, 0, np.clip(layers["albedo"], 0, 1)).astype(np.float32),
    )


def _unit(vectors: Float64) -> Float64:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _denoised(rendered: Rendered) -> Rendered:
    """Open Image Denoise on the CPU (Afra, 2019-2025), guided by the albedo and normals of the label pass.

    The guides keep the grain of paper, card and wood: 3 to 5 dB won there, at up to 0.6 dB lost at object edges, since
    guides of one ray a pixel are jagged at the edges of objects (which is why they are not declared clean).
    """
    try:
        import pyoidn
    except ImportError as error:
        raise ConfigError(
            "denoise=true needs Open Image Denoise: pip install 'synthaug[render]', or set read.denoise=false"
        ) from error
    guides: dict[str, Any] = {"albedo": rendered.albedo, "normal": np.nan_to_num(rendered.normals)}
    smooth: Any = pyoidn.denoise(np.ascontiguousarray(rendered.radiance), hdr=True, **guides)
    return replace(rendered, radiance=np.maximum(np.asarray(smooth, dtype=np.float32), 0))


def versions(denoise: bool) -> dict[str, str]:
    """Installed versions of what makes the pixels, read from package metadata; nothing is imported."""
    names = ("mitsuba", "drjit", *(("pyoidn",) if denoise else ()))
    return {name: metadata.version(name) for name in names}
