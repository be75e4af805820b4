"""Models with post-processing inside the graph: their segment_map becomes a Segmentation."""

import numpy as np
import pytest

from support.small_taxonomy import CAR, ROAD, SKY, TAXONOMY
from vps_ros.errors import DroppedFrame
from vps_ros.segmenters.model_card import InputSpec
from vps_ros.segmenters.preprocess import fit
from vps_ros.segmenters.segment_map import from_segment_map


class TestSlots:
    def slots(self, segment_map, classes, scores):
        return {
            "segment_map": np.array([segment_map], np.uint8),
            "slot_class": np.array([classes], np.int32),
            "slot_score": np.array([scores], np.float32),
            "query_embeddings": np.arange(len(classes), dtype=np.float32)[None, :, None] * np.ones(2, np.float32),
        }

    def test_slots_become_segments(self):
        given = self.slots([[0, 0, 255, 2], [3, 3, 3, 2]], [ROAD, -1, CAR, ROAD], [0.5, 0, 0.9, 0.7])
        result = from_segment_map(given, fit(InputSpec(2, 4), 4, 12), TAXONOMY)
        assert result.class_ids.tolist() == [26, 7]
        assert result.map[0].tolist() == [2] * 6 + [0] * 3 + [1] * 3
        assert result.map[3].tolist() == [2] * 9 + [1] * 3
        assert result.areas.tolist() == [12, 12 + 18]
        assert result.boxes.tolist() == [[9, 0, 12, 4], [0, 0, 9, 4]]
        np.testing.assert_allclose(result.scores, [0.9, 0.7])
        assert result.embeddings[:, 0].tolist() == [2, 3]

    def test_padding_is_cut_off(self):
        given = self.slots([[0, 0, 1, 1]] * 4, [ROAD, CAR], [0.5, 0.5])
        result = from_segment_map(given, fit(InputSpec(4, 4, keep_aspect=True), 8, 4), TAXONOMY)
        assert result.class_ids.tolist() == [7]
        assert result.areas.tolist() == [32]

    @pytest.mark.parametrize("classes", [[ROAD, -1], [ROAD], [ROAD, 3]])
    def test_a_slot_without_class_drops_the_frame(self, classes):
        given = self.slots([[0, 1]], classes, [0.5] * len(classes))
        with pytest.raises(DroppedFrame, match="no class"):
            from_segment_map(given, fit(InputSpec(1, 2), 1, 2), TAXONOMY)

    def test_nothing_but_void(self):
        result = from_segment_map(self.slots([[255, 255]], [ROAD], [0.5]), fit(InputSpec(1, 2), 3, 3), TAXONOMY)
        assert len(result) == 0
        assert result.boxes.shape == (0, 4)
        assert not result.map.any()

    def test_a_map_of_the_camera_shows_the_picture_without_padding(self):
        """A camera of 4 x 4 fills the left half of the input, and the map shows that half."""
        spec = InputSpec(4, 8, keep_aspect=True)
        given = self.slots([[0, 0, 1, 1]] * 4, [ROAD, CAR], [0.5, 0.5])
        made_for = fit(spec, 4, 4)
        for size, areas in (((4, 4), [8, 8]), ((8, 8), [32, 32])):
            result = from_segment_map(given, fit(spec, *size), TAXONOMY, made_for)
            assert result.areas.tolist() == areas
        with pytest.raises(DroppedFrame, match="image is 8x4, and the model's segment_map is for 4x4.*--camera 8x4"):
            from_segment_map(given, fit(spec, 4, 8), TAXONOMY, made_for)

    def test_boxes_are_those_of_the_map(self):
        rng = np.random.default_rng(0)
        slots = np.kron(rng.choice([0, 1, 2, 5, 255], (6, 7)), np.ones((3, 2)))
        given = self.slots(slots, [ROAD, CAR, CAR, CAR, SKY, ROAD], [0.5, 0.4, 0.9, 0.1, 0.2, 0.6])
        result = from_segment_map(given, fit(InputSpec(18, 14), 18, 14), TAXONOMY)
        # Slots 0 and 5 are both road, with the better score.
        assert result.class_ids.tolist() == [26, 7, 26]
        np.testing.assert_allclose(result.scores, [0.9, 0.6, 0.4])
        for k, box in enumerate(result.boxes):
            rows, cols = np.nonzero(result.map == k + 1)
            assert box.tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
            assert result.areas[k] == len(rows)
