"""The 65 classes of Mapillary Vistas 1.2, by the ids in its panoptic JSON files.

Source: Neuhold et al., The Mapillary Vistas Dataset for Semantic Understanding of Street Scenes, ICCV 2017.
"""

from __future__ import annotations

from vps_ros.taxonomy import ClassInfo, Taxonomy

_CLASSES = (
    ("Bird", True, (165, 42, 42)),
    ("Ground Animal", True, (0, 192, 0)),
    ("Curb", False, (196, 196, 196)),
    ("Fence", False, (190, 153, 153)),
    ("Guard Rail", False, (180, 165, 180)),
    ("Barrier", False, (90, 120, 150)),
    ("Wall", False, (102, 102, 156)),
    ("Bike Lane", False, (128, 64, 255)),
    ("Crosswalk - Plain", True, (140, 140, 200)),
    ("Curb Cut", False, (170, 170, 170)),
    ("Parking", False, (250, 170, 160)),
    ("Pedestrian Area", False, (96, 96, 96)),
    ("Rail Track", False, (230, 150, 140)),
    ("Road", False, (128, 64, 128)),
    ("Service Lane", False, (110, 110, 110)),
    ("Sidewalk", False, (244, 35, 232)),
    ("Bridge", False, (150, 100, 100)),
    ("Building", False, (70, 70, 70)),
    ("Tunnel", False, (150, 120, 90)),
    ("Person", True, (220, 20, 60)),
    ("Bicyclist", True, (255, 0, 0)),
    ("Motorcyclist", True, (255, 0, 100)),
    ("Other Rider", True, (255, 0, 200)),
    ("Lane Marking - Crosswalk", True, (200, 128, 128)),
    ("Lane Marking - General", False, (255, 255, 255)),
    ("Mountain", False, (64, 170, 64)),
    ("Sand", False, (230, 160, 50)),
    ("Sky", False, (70, 130, 180)),
    ("Snow", False, (190, 255, 255)),
    ("Terrain", False, (152, 251, 152)),
    ("Vegetation", False, (107, 142, 35)),
    ("Water", False, (0, 170, 30)),
    ("Banner", True, (255, 255, 128)),
    ("Bench", True, (250, 0, 30)),
    ("Bike Rack", True, (100, 140, 180)),
    ("Billboard", True, (220, 220, 220)),
    ("Catch Basin", True, (220, 128, 128)),
    ("CCTV Camera", True, (222, 40, 40)),
    ("Fire Hydrant", True, (100, 170, 30)),
    ("Junction Box", True, (40, 40, 40)),
    ("Mailbox", True, (33, 33, 33)),
    ("Manhole", True, (100, 128, 160)),
    ("Phone Booth", True, (142, 0, 0)),
    ("Pothole", False, (70, 100, 150)),
    ("Street Light", True, (210, 170, 100)),
    ("Pole", True, (153, 153, 153)),
    ("Traffic Sign Frame", True, (128, 128, 128)),
    ("Utility Pole", True, (0, 0, 80)),
    ("Traffic Light", True, (250, 170, 30)),
    ("Traffic Sign (Back)", True, (192, 192, 192)),
    ("Traffic Sign (Front)", True, (220, 220, 0)),
    ("Trash Can", True, (140, 140, 20)),
    ("Bicycle", True, (119, 11, 32)),
    ("Boat", True, (150, 0, 255)),
    ("Bus", True, (0, 60, 100)),
    ("Car", True, (0, 0, 142)),
    ("Caravan", True, (0, 0, 90)),
    ("Motorcycle", True, (0, 0, 230)),
    ("On Rails", False, (0, 80, 100)),
    ("Other Vehicle", True, (128, 64, 64)),
    ("Trailer", True, (0, 0, 110)),
    ("Truck", True, (0, 0, 70)),
    ("Wheeled Slow", True, (0, 0, 192)),
    ("Car Mount", False, (32, 32, 32)),
    ("Ego Vehicle", False, (120, 10, 10)),
)

MAPILLARY_VISTAS = Taxonomy(
    "mapillary-vistas", tuple(ClassInfo(i, n, thing, c) for i, (n, thing, c) in enumerate(_CLASSES, 1))
)
"""37 things and 28 stuff."""
