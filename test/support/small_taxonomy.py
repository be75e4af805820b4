"""Three classes, whose ids are not their columns."""

from vps_ros.taxonomy import ClassInfo, Taxonomy

ROAD, SKY, CAR = range(3)
TAXONOMY = Taxonomy(
    "small",
    (
        ClassInfo(7, "road", False, (1, 2, 3)),
        ClassInfo(8, "sky", False, (4, 5, 6)),
        ClassInfo(26, "car", True, (7, 8, 9)),
    ),
)
