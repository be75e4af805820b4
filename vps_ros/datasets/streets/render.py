"""Off-screen rendering of triangles with the software rasteriser of Panda3D.

Three render passes hold the same triangles: `color` (shaded, with textures; shadows are only here), `labels` (class and
instance as an exact colour) and `triangles` (the triangle number as an exact colour, for depth and flow).
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vps_ros.errors import InputError

_PASSES = {"color": 1, "labels": 2, "triangles": 4}
"""Pass -> its bit in the masks of cameras and nodes."""
_VERTEX = np.dtype([("point", "<f4", 3), ("color", "u1", 4), ("uv", "<f4", 2)])

_STEP = 10_000_000
"""Size of the range of draw indices of one layer of the ground."""

_shared: dict[str, Any] = {}


def _core() -> Any:
    """panda3d.core, with the software rasteriser loaded once per process."""
    if "core" not in _shared:
        try:
            from panda3d import core
        except ImportError:
            raise InputError('generated streets need panda3d; pip install "vps_ros[demo]"') from None
        core.load_prc_file_data(
            "", "load-display p3tinydisplay\naux-display\nwindow-type offscreen\naudio-library-name null\n"
            "notify-level-display error\nnotify-level-tinydisplay error\n"
        )  # fmt: skip
        _shared["core"] = core
        _shared["engine"] = core.GraphicsEngine.get_global_ptr()
        selection = core.GraphicsPipeSelection.get_global_ptr()
        selection.load_aux_modules()
        pipe = None
        for i in range(selection.get_num_pipe_types()):
            kind = selection.get_pipe_type(i)
            if kind.name == "TinyOffscreenGraphicsPipe":
                pipe = selection.make_pipe(kind)
        _shared["pipe"] = pipe or selection.make_module_pipe("p3tinydisplay")
        _shared["textures"] = {}
    return _shared["core"]


def _texture(name: str, pixels: NDArray[np.uint8]) -> Any:
    """The picture [h, w, 3 or 4] as a repeating texture; kept for the process under its name, if it has one."""
    core = _core()
    kept = _shared["textures"]
    if not name or name not in kept:
        h, w, depth = pixels.shape
        texture = core.Texture(name)
        kind = core.Texture.F_rgba if depth == 4 else core.Texture.F_rgb
        texture.setup_2d_texture(w, h, core.Texture.T_unsigned_byte, kind)
        order = [2, 1, 0, 3][:depth]
        texture.set_ram_image(np.ascontiguousarray(pixels[::-1, :, order]).tobytes())
        texture.set_minfilter(core.SamplerState.FT_linear_mipmap_linear)
        texture.set_magfilter(core.SamplerState.FT_linear)
        if not name:
            return texture
        kept[name] = texture
    return kept[name]


class Renderer:
    """One scene and its camera.

    Args:
        size: (W, H) of the label map in pixels; passes are rendered `samples` times as large.
        focal: focal length in pixels of the label map.
    """

    def __init__(self, size: tuple[int, int], focal: float, samples: int = 2) -> None:
        core = _core()
        self._root = core.NodePath("world")
        self._root.set_two_sided(True)
        self._size = size
        self._samples = samples
        self._lens = core.PerspectiveLens()
        self._lens.set_film_size(size[0], size[1])
        self._lens.set_focal_length(focal)
        self._lens.set_near_far(0.25, 400)
        self._views = {name: self._view(name) for name in ("color", "labels")}
        self._count = _STEP // 2
        buffers = [v[0] for v in self._views.values()]
        weakref.finalize(self, _close, buffers)

    def _view(self, render_pass: str) -> tuple[Any, Any, Any]:
        core = _core()
        size = self._size[0] * self._samples, self._size[1] * self._samples
        asked = core.FrameBufferProperties()
        asked.set_rgba_bits(8, 8, 8, 8)
        asked.set_depth_bits(24)
        buffer = _shared["engine"].make_output(
            _shared["pipe"], "street", 0, asked, core.WindowProperties.size(*size), core.GraphicsPipe.BF_refuse_window
        )
        if buffer is None:
            raise RuntimeError("Panda3D made no off-screen buffer; its software rasteriser p3tinydisplay is missing")
        texture = core.Texture()
        buffer.add_render_texture(texture, core.GraphicsOutput.RTM_copy_ram)
        buffer.set_clear_color((0, 0, 0, 0))
        camera = core.Camera("camera", self._lens)
        camera.set_camera_mask(core.BitMask32(_PASSES[render_pass]))
        path = self._root.attach_new_node(camera)
        buffer.make_display_region().set_camera(path)
        buffer.set_active(False)
        return buffer, texture, path

    def add(
        self, render_pass: str, points: NDArray, colors: NDArray[np.uint8], uv: NDArray, faces: NDArray,
        texture: tuple[str, NDArray[np.uint8]] | None = None, order: int | None = None, blend: bool = False,
        cut: bool = False,
    ) -> Any:  # fmt: skip
        """Adds triangles of one texture to a pass and returns a handle.

        `order`: draw order of ground, back to front; all ground is behind the solids.
        """
        core = _core()
        node = core.GeomNode(render_pass)
        node.add_geom(self._geom(points, colors, uv, faces))
        path = self._root.attach_new_node(node)
        path.hide(core.BitMask32.all_on())
        path.show_through(core.BitMask32(_PASSES[render_pass]))
        if texture is not None:
            path.set_texture(_texture(*texture))
        # By default Panda3D draws in the order of memory addresses, so that ties of depth are random.
        # Solids are drawn first: hidden pixels of ground and sky are then not filled.
        self._count += 1
        path.set_bin("fixed", self._count % _STEP if order is None else _STEP * order + self._count % _STEP)
        if order is not None:
            path.set_depth_write(False)
        if blend:
            path.set_transparency(core.TransparencyAttrib.M_alpha)
            path.set_depth_write(False)
        elif cut:
            path.set_transparency(core.TransparencyAttrib.M_binary)
        return path

    def _geom(self, points: NDArray, colors: NDArray, uv: NDArray, faces: NDArray) -> Any:
        core = _core()
        if "format" not in _shared:
            array = core.GeomVertexArrayFormat()
            array.add_column("vertex", 3, core.Geom.NT_float32, core.Geom.C_point)
            array.add_column("color", 4, core.Geom.NT_uint8, core.Geom.C_color)
            array.add_column("texcoord", 2, core.Geom.NT_float32, core.Geom.C_texcoord)
            _shared["format"] = core.GeomVertexFormat.register_format(core.GeomVertexFormat(array))
        n = len(points)
        packed = np.zeros(n, _VERTEX)
        packed["point"], packed["uv"] = points, uv
        packed["color"] = 255
        packed["color"][:, : colors.shape[1]] = colors
        data = core.GeomVertexData("mesh", _shared["format"], core.Geom.UH_static)
        data.unclean_set_num_rows(n)
        data.modify_array_handle(0).copy_data_from(packed.tobytes())
        triangles = core.GeomTriangles(core.Geom.UH_static)
        triangles.set_index_type(core.Geom.NT_uint32)
        index = triangles.modify_vertices()
        index.unclean_set_num_rows(faces.size)
        index.modify_handle().copy_data_from(np.ascontiguousarray(faces, np.uint32).tobytes())
        geom = core.Geom(data)
        geom.add_primitive(triangles)
        return geom

    def background(self, color: NDArray) -> None:
        """Sets the colour 0..1 of the color pass where there are no triangles."""
        self._views["color"][0].set_clear_color((*(min(float(v), 1.0) for v in color), 1))

    def remove(self, handle: Any) -> None:
        handle.remove_node()

    def set_order(self, handle: Any, place: int) -> None:
        """Sets the draw index of a solid; near ones first save the filling of hidden pixels."""
        handle.set_bin("fixed", place)

    def render(self, render_pass: str, pose: NDArray) -> NDArray[np.uint8]:
        """uint8 [h, w, 4] BGRA seen from `pose` (4x4: columns right, forward, up, position in the world).

        A view of the rasteriser's memory with its channel order, since most callers need only a part of it.
        """
        core = _core()
        if render_pass not in self._views:
            self._views[render_pass] = self._view(render_pass)
            weakref.finalize(self, _close, [self._views[render_pass][0]])
        buffer, texture, camera = self._views[render_pass]
        camera.set_mat(core.LMatrix4(*(float(v) for v in np.asarray(pose).T.ravel())))
        buffer.set_active(True)
        _shared["engine"].render_frame()
        buffer.set_active(False)
        w, h = texture.get_x_size(), texture.get_y_size()
        raw = np.frombuffer(texture.get_ram_image(), np.uint8).reshape(h, w, -1)
        return raw[::-1]


def _close(buffers: list[Any]) -> None:
    for buffer in buffers:
        _shared["engine"].remove_window(buffer)
