"""The message definitions that other programs rely on."""

from rosbags.typesys import get_types_from_msg

CONTRACT = {
    "TrackedObject": """
        uint8 TENTATIVE=0
        uint8 CONFIRMED=1
        uint8 LOST=2
        uint8 NEW=0
        uint8 PIXELS=1
        uint8 MEMORY=2
        uint8 INSTANCE=3
        uint32 track_id
        uint16 segment_id
        uint16 class_id
        string class_name
        float32 score
        uint8 state
        uint8 associated_by
        float32 association_score
        sensor_msgs/RegionOfInterest roi
        float32 velocity_x
        float32 velocity_y
        uint32 area
        builtin_interfaces/Time first_seen
        builtin_interfaces/Time last_seen
        uint32 hits
    """,
    "TrackedObjects": """
        std_msgs/Header header
        uint32 sequence_id
        TrackedObject[] objects
    """,
    "PanopticSegment": """
        uint16 segment_id
        uint16 class_id
        string class_name
        bool is_thing
        float32 score
        uint32 area
        uint32 track_id
    """,
    "PanopticSegments": """
        std_msgs/Header header
        string taxonomy
        PanopticSegment[] segments
    """,
    "ObjectVelocities": """
        std_msgs/Header header
        uint32[] track_ids
        geometry_msgs/Vector3[] velocities
    """,
}
CONSTANTS = {"TENTATIVE": 0, "CONFIRMED": 1, "LOST": 2, "NEW": 0, "PIXELS": 1, "MEMORY": 2, "INSTANCE": 3}


def fields(text, name):
    return get_types_from_msg(text, name)[name]
