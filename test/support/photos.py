"""Photos as phones and cameras store them: pixels in the order of the sensor, with an EXIF orientation."""

import struct
import zlib

import cv2
import numpy as np

RED, GREEN, BLUE, GREY = (230, 20, 20), (20, 230, 20), (20, 20, 230), (120, 120, 120)
STORED = np.kron(np.array([[RED, GREEN], [BLUE, GREY]], np.uint8), np.ones((16, 32, 1), np.uint8))
"""uint8 [32, 64, 3] RGB: red | green above blue | grey."""
UPRIGHT = {
    1: [[RED, GREEN], [BLUE, GREY]],
    2: [[GREEN, RED], [GREY, BLUE]],
    3: [[GREY, BLUE], [GREEN, RED]],
    4: [[BLUE, GREY], [RED, GREEN]],
    5: [[RED, BLUE], [GREEN, GREY]],
    6: [[BLUE, RED], [GREY, GREEN]],
    7: [[GREY, GREEN], [BLUE, RED]],
    8: [[GREEN, GREY], [RED, BLUE]],
}
"""EXIF orientation (EXIF 2.32, tag 0x0112) -> colours of the quarters of STORED when it is shown."""


def photo(suffix, orientation, image=STORED):
    """Content of a JPEG or PNG file of an RGB image with this orientation."""
    data = cv2.imencode(suffix, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    if suffix == ".png":
        # After the signature (8 bytes) and IHDR (25 bytes).
        chunk = b"eXIf" + tiff
        return data[:33] + struct.pack(">I", len(tiff)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    body = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def quarters(image):
    """The colour in the middle of each quarter, int [2, 2, 3]."""
    height, width = image.shape[:2]
    return image[height // 4 :: height // 2, width // 4 :: width // 2].astype(int)
