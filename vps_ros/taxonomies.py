"""The classes of the data sets: ids, names, things and colours as each data set defines them.

The tables are in the notation of `vps_ros.taxonomy.parse_classes`: `*` marks a thing, colours are hexadecimal.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from vps_ros.errors import InputError
from vps_ros.taxonomy import CITYSCAPES, KITTI_STEP, MOTCHALLENGE_STEP, Taxonomy, parse_classes

VIPSEG = Taxonomy(
    "vipseg",
    parse_classes("""
    wall #787878, ceiling #b47878, door* #06e6e6, stair #503232, ladder* #04c803, escalator #787850,
    Playground_slide #8c8c8c, handrail_or_fence #cc05ff, window* #e6e6e6, rail #04fa07, goal* #e005ff, pillar #ebff07,
    pole #96053d, floor #787846, ground #08ff33, grass #ff0652, sand #8fff8c, athletic_field #ccff04, road #ff3307,
    path #cc4603, crosswalk #0066c8, building #3de6fa, house #ff0633, bridge #0b66ff, tower #ff0747, windmill #ff09e0,
    well_or_well_lid #0907e6, other_construction #dcdcdc, sky #ff095c, mountain #7009ff, stone #08ffd6, wood #07ffe0,
    ice #ffb806, snowfield #0aff47, grandstand #ff290a, sea #07ffff, river #e0ff08, lake #6608ff, waterfall #ff3d06,
    water #ffc207, billboard_or_Bulletin_Board #ff7a08, sculpture* #00ff14, pipeline #ff0829, flag* #ff0599,
    parasol_or_umbrella* #0633ff, cushion_or_carpet #eb0cff, tent* #a09614, roadblock* #00a3ff, car* #8c8c8c,
    bus* #fa0a0f, truck* #14ff00, bicycle* #1fff00, motorcycle* #ff1f00, wheeled_machine #ffe000,
    ship_or_boat* #99ff00, raft* #0000ff, airplane* #ff4700, tyre #00ebff, traffic_light #00adff, lamp #1f00ff,
    person* #0bc8c8, cat* #ff5200, dog* #00fff5, horse* #003dff, cattle* #00ff70, other_animal* #00ff85, tree #ff0000,
    flower #ffa300, other_plant #ff6600, toy #c2ff00, ball_net #008fff, backboard #33ff00, skateboard* #0052ff,
    bat #00ff29, ball* #00ffad, cupboard_or_showcase_or_storage_rack #0a00ff, box* #adff00,
    traveling_case_or_trolley_case* #00ff99, basket* #ff5c00, bag_or_package* #ff00ff, trash_can #ff00f5, cage #ff0066,
    plate* #ffad00, tub_or_bowl_or_pot* #ff0014, bottle_or_cup* #ffb8b8, barrel* #001fff, fishbowl* #00ff3d,
    bed* #0047ff, pillow* #ff00cc, table_or_desk* #00ffc2, chair_or_seat* #00ff52, bench* #000aff, sofa* #0070ff,
    shelf #3300ff, bathtub #00c2ff, gun* #007aff, commode* #00ffa3, roaster* #ff9900, other_machine #00ff0a,
    refrigerator* #ff7000, washing_machine* #8fff00, Microwave_oven* #5200ff, fan* #a3ff00, curtain #ffeb00,
    textiles #08b8aa, clothes #8500ff, painting_or_poster* #00ff5c, mirror* #b800ff, flower_pot_or_vase* #ff001f,
    clock* #00b8ff, book #00d6ff, tool #ff0070, blackboard #5cff00, tissue #00e0ff, screen_or_television* #70e0ff,
    computer* #46b8a0, printer* #a300ff, Mobile_phone* #9900ff, keyboard* #47ff00, other_electronic_product #ff00a3,
    fruit #ffcc00, food #ff008f, instrument* #00ffeb, train* #85ff00
    """),
)
"""58 things and 66 stuff.

Source: Miao et al., Large-scale Video Panoptic Segmentation in the Wild: A Benchmark, CVPR 2022, and its categories
file. Ids are those that the benchmark's scripts evaluate, 0..123; the PNG files of the data set hold them plus one.
"""
VSPW = Taxonomy("vspw", tuple(replace(c, isthing=False) for c in VIPSEG.classes))
"""The classes of VIPSeg, all stuff, since VSPW has no instances.

Source: Miao et al., VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild, CVPR 2021.
"""
VIPER = Taxonomy(
    "viper",
    parse_classes("""
    2 sky #4682b4, 3 road #804080, 4 sidewalk #f423e8, 6 terrain #98fb98, 7 tree #57b623, 8 vegetation #238e23,
    9 building #464646, 10 infrastructure #999999, 11 fence #be9999, 12 billboard #961414, 13 trafficlight* #faaa1e,
    14 trafficsign #dcdc00, 15 mobilebarrier #b4b464, 16 firehydrant* #ad9999, 17 chair* #a89999, 18 trash #510015,
    19 trashcan* #510051, 20 person* #dc143c, 23 motorcycle* #0000e6, 24 car* #00008e, 25 van* #00503c,
    26 bus* #003c64, 27 truck* #000046
    """),
)
"""The 23 evaluated classes, 13 stuff and 10 things, by the ids in the data set's maps.

Source: Richter et al., Playing for Benchmarks, ICCV 2017, and its label definitions; things and stuff: Kim et al.,
Video Panoptic Segmentation, CVPR 2020.
"""
YOUTUBE_VIS_2019 = Taxonomy(
    "youtube-vis-2019",
    parse_classes(
        """
    person* #dc143c, giant_panda* #005200, lizard* #770b20, parrot* #a52a2a, skateboard* #868667, sedan* #00008e,
    ape* #ff6d41, dog* #00e2fc, snake* #057900, monkey* #003c64, hand* #faaa1e, rabbit* #64aa1e, duck* #b300c2,
    cat* #ff4dff, cow* #78a69d, fish* #494dae, train* #005064, horse* #b6b6ff, turtle* #008f95, bear* #ae39ff,
    motorbike* #0000e6, giraffe* #480076, leopard* #ffb3f0, fox* #007d5c, deer* #d10097, owl* #bcd0b6,
    surfboard* #9194ae, airplane* #6a00e4, truck* #000046, zebra* #c76400, tiger* #a6c466, elephant* #6e4c00,
    snowboard* #8581ff, boat* #0000c0, shark* #b78258, mouse* #827287, frog* #6b8e23, eagle* #00e400,
    earless_seal* #aefff3, tennis_racket* #ffd0ba
        """,
        first_id=1,
    ),
)
YOUTUBE_VIS_2021 = Taxonomy(
    "youtube-vis-2021",
    parse_classes(
        """
    airplane* #6a00e4, bear* #ae39ff, bird* #ff6d41, boat* #0000c0, car* #00008e, cat* #ff4dff, cow* #78a69d,
    deer* #d10097, dog* #00e2fc, duck* #b300c2, earless_seal* #aefff3, elephant* #6e4c00, fish* #494dae,
    flying_disc* #faaa1e, fox* #007d5c, frog* #6b8e23, giant_panda* #005200, giraffe* #480076, horse* #b6b6ff,
    leopard* #ffb3f0, lizard* #770b20, monkey* #003c64, motorbike* #0000e6, mouse* #827287, parrot* #a52a2a,
    person* #dc143c, rabbit* #64aa1e, shark* #b78258, skateboard* #868667, snake* #057900, snowboard* #8581ff,
    squirrel* #bcd0b6, surfboard* #9194ae, tennis_racket* #ffd0ba, tiger* #a6c466, train* #005064, truck* #000046,
    turtle* #008f95, whale* #00e400, zebra* #c76400
        """,
        first_id=1,
    ),
)
"""40 classes each, all things, by the ids 1..40 of the JSON files.

Source: Yang et al., Video Instance Segmentation, ICCV 2019.
"""
COCO_PANOPTIC = Taxonomy(
    "coco-panoptic",
    parse_classes("""
    1 person* #dc143c, 2 bicycle* #770b20, 3 car* #00008e, 4 motorcycle* #0000e6, 5 airplane* #6a00e4, 6 bus* #003c64,
    7 train* #005064, 8 truck* #000046, 9 boat* #0000c0, 10 traffic light* #faaa1e, 11 fire hydrant* #64aa1e,
    13 stop sign* #dcdc00, 14 parking meter* #af74af, 15 bench* #fa001e, 16 bird* #a52a2a, 17 cat* #ff4dff,
    18 dog* #00e2fc, 19 horse* #b6b6ff, 20 sheep* #005200, 21 cow* #78a69d, 22 elephant* #6e4c00, 23 bear* #ae39ff,
    24 zebra* #c76400, 25 giraffe* #480076, 27 backpack* #ffb3f0, 28 umbrella* #007d5c, 31 handbag* #d10097,
    32 tie* #bcd0b6, 33 suitcase* #00dcb0, 34 frisbee* #ff63a4, 35 skis* #5c0049, 36 snowboard* #8581ff,
    37 sports ball* #4eb4ff, 38 kite* #00e400, 39 baseball bat* #aefff3, 40 baseball glove* #2d59ff,
    41 skateboard* #868667, 42 surfboard* #9194ae, 43 tennis racket* #ffd0ba, 44 bottle* #c5e2ff,
    46 wine glass* #ab8601, 47 cup* #6d3f36, 48 fork* #cf8aff, 49 knife* #97005f, 50 spoon* #09503d, 51 bowl* #546933,
    52 banana* #4a4169, 53 apple* #a6c466, 54 sandwich* #d0c3d2, 55 orange* #ff6d41, 56 broccoli* #008f95,
    57 carrot* #b300c2, 58 hot dog* #d1636a, 59 pizza* #057900, 60 donut* #e3ffcd, 61 cake* #93bad0, 62 chair* #994501,
    63 couch* #035fa1, 64 potted plant* #a3ff00, 65 bed* #7700aa, 67 dining table* #00b6c7, 70 toilet* #00a578,
    72 tv* #b78258, 73 laptop* #5f2000, 74 mouse* #827287, 75 remote* #6e8185, 76 keyboard* #a64a76,
    77 cell phone* #db8eb9, 78 microwave* #4fd272, 79 oven* #b25a3e, 80 toaster* #41460f, 81 sink* #7fa773,
    82 refrigerator* #3b696a, 84 book* #8e6c2d, 85 clock* #c4ac00, 86 vase* #5f3650, 87 scissors* #804cff,
    88 teddy bear* #c93901, 89 hair drier* #f6007a, 90 toothbrush* #bfa2d0, 92 banner #ffff80, 93 blanket #93d3cb,
    95 bridge #966464, 100 cardboard #a8abac, 107 counter #9270c6, 109 curtain #d2aa64, 112 door-stuff #5c8859,
    118 floor-wood #da58b8, 119 flower #f18100, 122 fruit #d911ff, 125 gravel #7c4ab5, 128 house #464646,
    130 light #ffe4ff, 133 mirror-stuff #9ad000, 138 net #c1005c, 141 pillow #4c5b71, 144 platform #ffb4c3,
    145 playingfield #6a9ab0, 147 railroad #e6968c, 148 river #3c8fff, 149 road #804080, 151 roof #5c5237,
    154 sand #fed47c, 155 sea #494dae, 156 shelf #ffa062, 159 snow #ffffff, 161 stairs #68546d, 166 tent #a9a483,
    168 towel #e1c7ff, 171 wall-brick #89364a, 175 wall-stone #879edf, 176 wall-tile #07f6e7, 177 wall-wood #6bffc8,
    178 water-other #3a2995, 180 window-blind #b7798e, 181 window-other #ff4961, 184 tree-merged #6b8e23,
    185 fence-merged #be9999, 186 ceiling-merged #928b8d, 187 sky-other-merged #4682b4, 188 cabinet-merged #86c79c,
    189 table-merged #d1e28c, 190 floor-other-merged #60246c, 191 pavement-merged #606060, 192 mountain-merged #40aa40,
    193 grass-merged #98fb98, 194 dirt-merged #d0e5e4, 195 paper-merged #cebaab, 196 food-other-merged #98a140,
    197 building-other-merged #747000, 198 rock-merged #00728f, 199 wall-other-merged #66669c, 200 rug-merged #fa8dff
    """),
)
"""133 classes by the ids of the JSON files.

Source: Kirillov et al., Panoptic Segmentation, CVPR 2019, and the categories file of COCO's panoptic challenge.
"""
ADE20K = Taxonomy(
    "ade20k",
    parse_classes("""
    wall #787878, building #b47878, sky #06e6e6, floor #503232, tree #04c803, ceiling #787850, road #8c8c8c,
    bed* #cc05ff, window* #e6e6e6, grass #04fa07, cabinet* #e005ff, sidewalk #ebff07, person* #96053d, earth #787846,
    door* #08ff33, table* #ff0652, mountain #8fff8c, plant #ccff04, curtain* #ff3307, chair* #cc4603, car* #0066c8,
    water #3de6fa, painting* #ff0633, sofa* #0b66ff, shelf* #ff0747, house #ff09e0, sea #0907e6, mirror* #dcdcdc,
    rug #ff095c, field #7009ff, armchair* #08ffd6, seat* #07ffe0, fence* #ffb806, desk* #0aff47, rock #ff290a,
    wardrobe* #07ffff, lamp* #e0ff08, tub* #6608ff, rail* #ff3d06, cushion* #ffc207, base #ff7a08, box* #00ff14,
    column* #ff0829, signboard* #ff0599, chest of drawers* #0633ff, counter* #eb0cff, sand #a09614, sink* #00a3ff,
    skyscraper #8c8c8c, fireplace* #fa0a0f, refrigerator* #14ff00, grandstand #1fff00, path #ff1f00, stairs* #ffe000,
    runway #99ff00, case* #0000ff, pool table* #ff4700, pillow* #00ebff, screen door* #00adff, stairway #1f00ff,
    river #0bc8c8, bridge #ff5200, bookcase* #00fff5, blind #003dff, coffee table* #00ff70, toilet* #00ff85,
    flower* #ff0000, book* #ffa300, hill #ff6600, bench* #c2ff00, countertop* #008fff, stove* #33ff00, palm* #0052ff,
    kitchen island* #00ff29, computer* #00ffad, swivel chair* #0a00ff, boat* #adff00, bar #00ff99,
    arcade machine* #ff5c00, hovel #ff00ff, bus* #ff00f5, towel* #ff0066, light* #ffad00, truck* #ff0014,
    tower #ffb8b8, chandelier* #001fff, awning* #00ff3d, street lamp* #0047ff, booth* #ff00cc, tv* #00ffc2,
    plane* #00ff52, dirt track #000aff, clothes* #0070ff, pole* #3300ff, land #00c2ff, bannister* #007aff,
    escalator #00ffa3, ottoman* #ff9900, bottle* #00ff0a, buffet #ff7000, poster #8fff00, stage #5200ff, van* #a3ff00,
    ship* #ffeb00, fountain* #08b8aa, conveyer belt #8500ff, canopy #00ff5c, washer* #b800ff, plaything* #ff001f,
    pool #00b8ff, stool* #00d6ff, barrel* #ff0070, basket* #5cff00, falls #00e0ff, tent #70e0ff, bag* #46b8a0,
    minibike* #a300ff, cradle #9900ff, oven* #47ff00, ball* #ff00a3, food* #ffcc00, step* #ff008f, tank #00ffeb,
    trade name* #85ff00, microwave* #ff00eb, pot* #f500ff, animal* #ff007a, bicycle* #fff500, lake #0abed4,
    dishwasher* #d6ff00, screen* #00ccff, blanket #1400ff, sculpture* #ffff00, hood* #0099ff, sconce* #0029ff,
    vase* #00ffcc, traffic light* #2900ff, tray* #29ff00, trash can* #ad00ff, fan* #00f5ff, pier #4700ff,
    crt screen #7a00ff, plate* #00ffb8, monitor* #005cff, bulletin board* #b8ff00, shower #0085ff, radiator* #ffd600,
    glass* #19c2c2, clock* #66ff00, flag* #5c00ff
    """),
)
"""150 classes. Where a class has several names, the first one.

Source: Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017, with the things of its panoptic form.
"""
MAPILLARY_VISTAS = Taxonomy(
    "mapillary-vistas",
    parse_classes(
        """
    Bird* #a52a2a, Ground Animal* #00c000, Curb #c4c4c4, Fence #be9999, Guard Rail #b4a5b4, Barrier #5a7896,
    Wall #66669c, Bike Lane #8040ff, Crosswalk - Plain* #8c8cc8, Curb Cut #aaaaaa, Parking #faaaa0,
    Pedestrian Area #606060, Rail Track #e6968c, Road #804080, Service Lane #6e6e6e, Sidewalk #f423e8, Bridge #966464,
    Building #464646, Tunnel #96785a, Person* #dc143c, Bicyclist* #ff0000, Motorcyclist* #ff0064, Other Rider* #ff00c8,
    Lane Marking - Crosswalk* #c88080, Lane Marking - General #ffffff, Mountain #40aa40, Sand #e6a032, Sky #4682b4,
    Snow #beffff, Terrain #98fb98, Vegetation #6b8e23, Water #00aa1e, Banner* #ffff80, Bench* #fa001e,
    Bike Rack* #648cb4, Billboard* #dcdcdc, Catch Basin* #dc8080, CCTV Camera* #de2828, Fire Hydrant* #64aa1e,
    Junction Box* #282828, Mailbox* #212121, Manhole* #6480a0, Phone Booth* #8e0000, Pothole #466496,
    Street Light* #d2aa64, Pole* #999999, Traffic Sign Frame* #808080, Utility Pole* #000050, Traffic Light* #faaa1e,
    Traffic Sign (Back)* #c0c0c0, Traffic Sign (Front)* #dcdc00, Trash Can* #8c8c14, Bicycle* #770b20, Boat* #9600ff,
    Bus* #003c64, Car* #00008e, Caravan* #00005a, Motorcycle* #0000e6, On Rails #005064, Other Vehicle* #804040,
    Trailer* #00006e, Truck* #000046, Wheeled Slow* #0000c0, Car Mount #202020, Ego Vehicle #780a0a
        """,
        first_id=1,
    ),
)
"""The 65 classes of Mapillary Vistas 1.2 by the ids of its panoptic JSON files.

Source: Neuhold et al., The Mapillary Vistas Dataset for Semantic Understanding of Street Scenes, ICCV 2017.
"""

ALL: dict[str, Taxonomy] = {
    t.name: t
    for t in (
        *(KITTI_STEP, CITYSCAPES, MOTCHALLENGE_STEP, VIPSEG, VSPW, VIPER, YOUTUBE_VIS_2019, YOUTUBE_VIS_2021),
        *(COCO_PANOPTIC, ADE20K, MAPILLARY_VISTAS),
    )
}
"""By name."""


def load_taxonomy(choice: str, option: str = "--taxonomy") -> Taxonomy:
    """The taxonomy of a data set by its name, or of a JSON file with a list of {id, name, isthing, color}.

    `option` is the command line option, for messages. Raises InputError when there is no such taxonomy.
    """
    if choice in ALL:
        return ALL[choice]
    path = Path(choice)
    if path.suffix != ".json":
        raise InputError(f"{option} {choice}: no such data set; choose one of {', '.join(ALL)}, or give a JSON file")
    try:
        return Taxonomy.from_json(path.stem, json.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not readable as JSON ({str(error).splitlines()[0]})") from None
