"""Every encoding against pixels worked out by hand."""

from array import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vps_ros import open_frames
from vps_ros.errors import DroppedFrame
from vps_ros.messages.images import ENCODINGS, array_to_image, compressed_to_rgb, image_to_array, image_to_rgb
from vps_ros.messages.panoptic import make_header
from vps_ros.messages.typestore import typestore

RED, GREEN, BLUE, WHITE = (250, 10, 20), (30, 240, 40), (50, 60, 230), (255, 255, 255)
SQUARE = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)


def image(pixels, encoding, step=None, big=0, height=None, width=None):
    """An Image of an array whose memory has the encoding's layout; rows are padded with 0xAB up to `step`."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    step = rows.shape[1] if step is None else step
    padded = np.full((len(rows), step), 0xAB, np.uint8)
    padded[:, : rows.shape[1]] = rows
    return SimpleNamespace(
        height=len(pixels) if height is None else height,
        width=pixels.shape[1] if width is None else width,
        encoding=encoding,
        is_bigendian=big,
        step=step,
        data=padded.reshape(-1),
    )


def alpha(pixels):
    return np.dstack((pixels, np.full(pixels.shape[:2], 7, np.uint8)))


COLOURS = {
    "rgb8": SQUARE,
    "bgr8": SQUARE[:, :, ::-1],
    "rgba8": alpha(SQUARE),
    "bgra8": alpha(SQUARE[:, :, ::-1]),
    "8UC3": SQUARE[:, :, ::-1],
    "8UC4": alpha(SQUARE[:, :, ::-1]),
    "rgb16": SQUARE.astype(np.uint16) * 257,
    "bgr16": SQUARE[:, :, ::-1].astype(np.uint16) * 257,
    "rgba16": alpha(SQUARE).astype(np.uint16) * 257,
    "bgra16": alpha(SQUARE[:, :, ::-1]).astype(np.uint16) * 257,
}


@pytest.mark.parametrize("encoding", COLOURS)
@pytest.mark.parametrize("padding", [0, 1, 5])
def test_colours(encoding, padding):
    pixels = COLOURS[encoding]
    step = pixels[0].nbytes + padding
    np.testing.assert_array_equal(image_to_rgb(image(pixels, encoding, step)), SQUARE)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
@pytest.mark.parametrize("step", [3, 4, 7])
def test_grey(encoding, step):
    grey = np.array([[0, 1, 2], [128, 254, 255]], np.uint8)
    np.testing.assert_array_equal(image_to_rgb(image(grey, encoding, step)), np.dstack([grey] * 3))


@pytest.mark.parametrize(("order", "big"), [("<u2", 0), (">u2", 1)])
@pytest.mark.parametrize("step", [8, 9, 11])
def test_mono16_scales_the_full_range(order, big, step):
    # 257 = 65535 / 255; 128 is nearer to 0 than to 257, 129 is not.
    wide = np.array([[0, 128, 129, 257], [25700, 65407, 65406, 65535]], np.uint16)
    narrow = np.array([[0, 0, 1, 1], [100, 255, 254, 255]], np.uint8)
    result = image_to_rgb(image(wide.astype(order), "mono16", step, big))
    np.testing.assert_array_equal(result, np.dstack([narrow] * 3))


WIDE = {
    # 257 = 65535 / 255, so 0x0101 is 1: 0x8080 is 128; 0x1234 = 4660 is 18.1; 0xFF00 = 65280 is 254.0.
    "mono16": ([0x1234], (18, 18, 18)),
    "rgb16": ([0x1234, 0x8080, 0xFF00], (18, 128, 254)),
    "bgr16": ([0xFF00, 0x8080, 0x1234], (18, 128, 254)),
    "rgba16": ([0x1234, 0x8080, 0xFF00, 0x0707], (18, 128, 254)),
    "bgra16": ([0xFF00, 0x8080, 0x1234, 0x0707], (18, 128, 254)),
    **{f"bayer_{pattern}16": ([0x1234], (18, 18, 18)) for pattern in ("rggb", "bggr", "gbrg", "grbg")},
}


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name.endswith("16")])
@pytest.mark.parametrize(("order", "big"), [("<u2", 0), (">u2", 1)])
@pytest.mark.parametrize("padding", [0, 1, 6])
def test_byte_order_of_16_bits(encoding, order, big, padding):
    values, colour = WIDE[encoding]
    pixels = np.tile(np.array(values, np.uint16), (4, 5)).reshape(4, 5, -1).astype(order)
    result = image_to_rgb(image(pixels, encoding, pixels[0].nbytes + padding, big))
    np.testing.assert_array_equal(result, np.broadcast_to(colour, (4, 5, 3)))


BAYER = {"rggb": (0, 1, 1, 2), "bggr": (2, 1, 1, 0), "gbrg": (1, 2, 0, 1), "grbg": (1, 0, 2, 1)}


@pytest.mark.parametrize("pattern", BAYER)
@pytest.mark.parametrize("colour", [RED, GREEN, BLUE, (200, 100, 50)])
@pytest.mark.parametrize("depth", [8, 16])
def test_bayer_of_one_colour_is_that_colour_everywhere(pattern, colour, depth):
    mosaic = np.zeros((6, 8), np.uint8)
    for place, channel in enumerate(BAYER[pattern]):
        mosaic[place // 2 :: 2, place % 2 :: 2] = colour[channel]
    if depth == 16:
        mosaic = mosaic.astype(np.uint16) * 257
    result = image_to_rgb(image(mosaic, f"bayer_{pattern}{depth}", mosaic[0].nbytes + 3))
    np.testing.assert_array_equal(result, np.broadcast_to(colour, (6, 8, 3)))


# BT.601, video range: (Y, U, V) -> RGB with R = 1.164 (Y - 16) + 1.596 (V - 128) and so on, rounded and clipped.
YUV = [
    ((16, 128, 128), (0, 0, 0)),
    ((235, 128, 128), (255, 255, 255)),
    ((126, 128, 128), (128, 128, 128)),
    ((81, 90, 240), (254, 0, 0)),
    ((145, 54, 34), (0, 255, 1)),
    ((41, 240, 110), (0, 0, 255)),
]


def yuv_planes(encoding, y, u, v):
    """4x4 pixels of one colour in each layout, and their width in columns of the array."""
    if encoding in ("uyvy", "yuv422"):
        return np.tile(np.array([u, y, v, y], np.uint8), (4, 2))
    if encoding in ("yuyv", "yuv422_yuy2"):
        return np.tile(np.array([y, u, y, v], np.uint8), (4, 2))
    first, second = (v, u) if encoding == "nv21" else (u, v)
    luma = np.full((4, 4), y, np.uint8)
    rows = 8 if encoding == "nv24" else 2
    return np.vstack((luma, np.tile(np.array([first, second], np.uint8), (rows, 2))))


@pytest.mark.parametrize("encoding", ["uyvy", "yuv422", "yuyv", "yuv422_yuy2", "nv12", "nv21", "nv24"])
@pytest.mark.parametrize(("yuv", "rgb"), YUV)
def test_yuv(encoding, yuv, rgb):
    planes = yuv_planes(encoding, *yuv)
    for padding in (0, 3):
        rows = planes
        if encoding == "nv24":
            # A row of 8 bytes U and V has twice the padding of a row of Y.
            fill = np.full((4, padding), 0xAB, np.uint8)
            rows = np.vstack(
                (np.hstack((planes[:4], fill)), np.hstack((planes[4:].reshape(4, 8), fill, fill)).reshape(8, -1))
            )
        step = planes.shape[1] + padding
        message = image(rows, encoding, step, height=4, width=4)
        result = image_to_rgb(message)
        assert result.shape == (4, 4, 3)
        # OpenCV's fixed-point arithmetic is one off here and there.
        assert np.abs(result.astype(int) - rgb).max() <= 1


@pytest.mark.parametrize(("encoding", "step"), [("nv12", 6), ("nv21", 6), ("nv24", 12)])
@pytest.mark.parametrize(("yuv", "rgb"), YUV)
def test_the_step_of_all_planes_together(encoding, step, yuv, rgb):
    message = image(yuv_planes(encoding, *yuv), encoding, height=4, width=4)
    message.step = step
    assert np.abs(image_to_rgb(message).astype(int) - rgb).max() <= 1
    # The same step with padded rows: the data is longer.
    if encoding != "nv24":
        message = image(yuv_planes(encoding, *yuv), encoding, step, height=4, width=4)
        assert np.abs(image_to_rgb(message).astype(int) - rgb).max() <= 1


def test_each_pair_of_yuv_pixels_has_its_own_colour():
    red_then_blue = np.array([[90, 81, 240, 81, 240, 41, 110, 41]], np.uint8)
    result = image_to_rgb(image(red_then_blue, "uyvy", width=4)).astype(int)
    assert np.abs(result[0, :2] - (254, 0, 0)).max() <= 1
    assert np.abs(result[0, 2:] - (0, 0, 255)).max() <= 1


def test_unpadded_rgb8_is_a_view():
    message = image(SQUARE, "rgb8")
    assert np.shares_memory(image_to_rgb(message), message.data)


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, lambda b: array("B", b), list, lambda b: np.frombuffer(b, np.uint8)]
)
def test_any_buffer_can_hold_the_data(kind):
    message = image(SQUARE, "rgb8")
    message.data = kind(message.data.tobytes())
    np.testing.assert_array_equal(image_to_rgb(message), SQUARE)


def test_every_encoding_has_a_test():
    tested = {*COLOURS, "mono8", "8UC1", "mono16", "uyvy", "yuv422", "yuyv", "yuv422_yuy2", "nv12", "nv21", "nv24"}
    tested |= {f"bayer_{pattern}{depth}" for pattern in BAYER for depth in (8, 16)}
    assert set(ENCODINGS) == tested


def test_an_unknown_encoding_is_named_with_the_known_ones():
    with pytest.raises(DroppedFrame, match=r"'hologram8'.*rgb8.*bayer_rggb8") as error:
        image_to_rgb(image(SQUARE, "hologram8"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_is_told_from_unknown(encoding):
    with pytest.raises(DroppedFrame, match="depth"):
        image_to_rgb(image(np.zeros((2, 2), np.uint16), encoding))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("change", ["short", "long", "step", "empty"])
def test_size_and_data_that_disagree(encoding, change):
    message = SimpleNamespace(
        height=4, width=4, encoding=encoding, is_bigendian=0, step=32, data=np.zeros(4 * 32, np.uint8)
    )
    if encoding in ("nv12", "nv21"):
        message.data = np.zeros(6 * 32, np.uint8)
    if encoding == "nv24":
        message.data = np.zeros(12 * 32, np.uint8)
    assert image_to_rgb(message).shape == (4, 4, 3)
    if change == "step":
        message.step = 3
    else:
        message.data = {"short": message.data[:-1], "long": np.append(message.data, 0), "empty": message.data[:0]}[
            change
        ]
    with pytest.raises(DroppedFrame) as error:
        image_to_rgb(message)
    assert "\n" not in str(error.value)
    assert encoding in str(error.value)


@pytest.mark.parametrize(("height", "width"), [(0, 0), (0, 4), (4, 0)])
def test_no_pixels(height, width):
    message = SimpleNamespace(
        height=height, width=width, encoding="rgb8", is_bigendian=0, step=0, data=np.zeros(0, np.uint8)
    )
    with pytest.raises(DroppedFrame, match=f"{width}x{height}"):
        image_to_rgb(message)


def test_halved_chroma_needs_even_sizes():
    for encoding, pixels in (("uyvy", np.zeros((2, 6), np.uint8)), ("nv12", np.zeros((3, 3), np.uint8))):
        with pytest.raises(DroppedFrame, match=encoding):
            image_to_rgb(image(pixels, encoding, height=2, width=3))


def test_a_mosaic_needs_three_pixels():
    with pytest.raises(DroppedFrame, match="3x3"):
        image_to_rgb(image(np.zeros((2, 2), np.uint8), "bayer_rggb8"))


@given(
    st.integers(0, 6),
    st.integers(0, 6),
    st.sampled_from((*ENCODINGS, "", "RGB8", "32FC3")),
    st.integers(0, 64),
    st.integers(0, 400),
)
def test_whatever_the_header_says_it_is_an_image_or_a_dropped_frame(height, width, encoding, step, size):
    message = SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=1, step=step, data=np.zeros(size, np.uint8)
    )
    try:
        result = image_to_rgb(message)
    except DroppedFrame:
        return
    assert result.shape == (height, width, 3)
    assert result.dtype == np.uint8


# Compressed images.


def compressed(data, form):
    return SimpleNamespace(format=form, data=np.frombuffer(bytes(data), np.uint8))


def encode(pixels, ending):
    flags = [cv2.IMWRITE_JPEG_QUALITY, 100] if ending == ".jpg" else []
    return cv2.imencode(ending, pixels, flags)[1].tobytes()


PLAIN = np.full((16, 24, 3), RED, np.uint8)


@pytest.mark.parametrize("form", ["png", "rgb8; png compressed bgr8", "bgr8; png compressed bgr8", ""])
def test_png_is_exact(form):
    np.testing.assert_array_equal(compressed_to_rgb(compressed(encode(SQUARE[:, :, ::-1], ".png"), form)), SQUARE)


@pytest.mark.parametrize("form", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "bgra8; jpeg compressed bgr8", "junk"])
def test_jpeg(form):
    result = compressed_to_rgb(compressed(encode(PLAIN[:, :, ::-1], ".jpg"), form))
    assert np.abs(result.astype(int) - PLAIN).max() <= 2


@pytest.mark.parametrize("form", ["rgb8; jpeg compressed rgb8", "rgb8; jpeg compressed "])
def test_an_encoder_that_was_given_rgb_as_bgr(form):
    # Some publishers hand RGB to an encoder that takes it for BGR, and say so; decoding turns it round again.
    result = compressed_to_rgb(compressed(encode(PLAIN, ".jpg"), form))
    assert np.abs(result.astype(int) - PLAIN).max() <= 2


def test_grey_pictures_and_mosaics():
    grey = np.full((8, 8), 90, np.uint8)
    result = compressed_to_rgb(compressed(encode(grey, ".png"), "mono8; png compressed mono8"))
    np.testing.assert_array_equal(result, np.full((8, 8, 3), 90))
    mosaic = np.zeros((6, 6), np.uint8)
    for place, channel in enumerate(BAYER["rggb"]):
        mosaic[place // 2 :: 2, place % 2 :: 2] = RED[channel]
    result = compressed_to_rgb(compressed(encode(mosaic, ".png"), "bayer_rggb8; png compressed bayer_rggb8"))
    np.testing.assert_array_equal(result, np.broadcast_to(RED, (6, 6, 3)))


@pytest.mark.parametrize("pattern", BAYER)
@pytest.mark.parametrize("depth", [8, 16])
def test_a_mosaic_as_png(pattern, depth):
    mosaic = np.zeros((6, 8), np.uint8 if depth == 8 else np.uint16)
    for place, channel in enumerate(BAYER[pattern]):
        mosaic[place // 2 :: 2, place % 2 :: 2] = RED[channel] * (1 if depth == 8 else 257)
    result = compressed_to_rgb(compressed(encode(mosaic, ".png"), f"bayer_{pattern}{depth}; png compressed "))
    np.testing.assert_array_equal(result, np.broadcast_to(RED, (6, 8, 3)))


@pytest.mark.parametrize(
    ("form", "stored"),
    [("bgr16; png compressed bgr16", 1), ("rgb16; png compressed bgr16", 1), ("rgb16; png compressed ", -1),
     ("png", 1)],
)  # fmt: skip
def test_png_of_16_bits(form, stored):
    """129 is nearer to 257 = 1 than to 0. `stored`: -1 if red and blue of the file are swapped."""
    pixels = np.full((4, 5, 3), (0xFF00, 0x8080, 129), np.uint16)[:, :, ::-1]
    result = compressed_to_rgb(compressed(encode(np.ascontiguousarray(pixels[:, :, ::stored]), ".png"), form))
    np.testing.assert_array_equal(result, np.broadcast_to((254, 128, 1), (4, 5, 3)))


def test_a_mosaic_of_a_vehicle(oddfiles):
    for frame in open_frames(oddfiles / "b16.mcap"):
        np.testing.assert_array_equal(frame.image, np.broadcast_to((220, 40, 30), frame.image.shape))


def test_exif_orientation_is_ignored():
    # APP1 with one TIFF entry: orientation (0x0112), short, 1 value, 6 = turned by 90 degrees.
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    body = b"Exif\x00\x00" + tiff
    plain = encode(PLAIN[:, :, ::-1], ".jpg")
    turned = plain[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + plain[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (24, 16, 3)
    assert compressed_to_rgb(compressed(turned, "jpeg")).shape == (16, 24, 3)


def test_a_jpeg_cut_anywhere_is_dropped():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    whole = encode(noise, ".jpg")
    for end in (*range(40), *range(40, len(whole), 97), len(whole) - 2, len(whole) - 1):
        with pytest.raises(DroppedFrame):
            compressed_to_rgb(compressed(whole[:end], "jpeg"))
    # Cameras pad their JPEGs with zeros to whole words.
    assert compressed_to_rgb(compressed(whole + bytes(3), "jpeg")).shape == (32, 32, 3)


@pytest.mark.parametrize("data", [b"", b"\x00" * 50, b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n" + b"x" * 40])
def test_a_broken_picture_is_dropped(data):
    with pytest.raises(DroppedFrame):
        compressed_to_rgb(compressed(data, "jpeg"))


@pytest.mark.parametrize("form", ["16UC1; compressedDepth png", "32FC1; compressedDepth", "16UC1; png compressed "])
def test_compressed_depth_is_dropped(form):
    with pytest.raises(DroppedFrame, match="depth"):
        compressed_to_rgb(compressed(encode(np.zeros((4, 4), np.uint16), ".png"), form))


# Arrays to messages.


@pytest.mark.parametrize(
    ("encoding", "pixels", "step"),
    [
        ("rgb8", np.arange(36, dtype=np.uint8).reshape(3, 4, 3), 12),
        ("mono16", np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000, 8),
        ("32SC1", np.arange(12, dtype=np.int32).reshape(3, 4) * -70000, 16),
        ("mono16", (np.arange(24, dtype=np.uint16).reshape(3, 8) * 2700)[:, ::2], 8),
    ],
)
def test_an_array_survives_a_round_trip(encoding, pixels, step):
    message = array_to_image(pixels, encoding, make_header(1_234_567_890_123_456_789, "eye"))
    assert (message.height, message.width, message.step) == (3, 4, step)
    kind = message.__msgtype__
    back = typestore().deserialize_cdr(typestore().serialize_cdr(message, kind), kind)
    assert (back.header.stamp.sec, back.header.stamp.nanosec, back.header.frame_id) == (1234567890, 123456789, "eye")
    if encoding == "rgb8":
        np.testing.assert_array_equal(image_to_rgb(back), pixels)
    else:
        np.testing.assert_array_equal(image_to_array(back, encoding, pixels.dtype.type), pixels)


def test_a_map_of_another_machine_and_padding():
    ids = np.array([[0, 1, 258], [1000, 1001, 65535]], np.uint16)
    np.testing.assert_array_equal(image_to_array(image(ids.astype(">u2"), "mono16", 9, 1), "mono16", np.uint16), ids)
    with pytest.raises(DroppedFrame, match="mono16"):
        image_to_array(image(SQUARE, "rgb8"), "mono16", np.uint16)


def test_what_a_damaged_message_says_is_told_in_short():
    with pytest.raises(DroppedFrame, match="unknown encoding") as error:
        image_to_rgb(image(SQUARE, "x" * 1_000_000))
    assert len(str(error.value)) < 1000
    torn = SimpleNamespace(format="y" * 1_000_000, data=np.zeros(10, np.uint8))
    with pytest.raises(DroppedFrame, match="cannot be decoded") as error:
        compressed_to_rgb(torn)
    assert len(str(error.value)) < 1000
