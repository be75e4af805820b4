"""Post-processing inside the graph gives what the host's gives, through ONNX Runtime."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from support.interpolation import at_input
from vps_ros.errors import DroppedFrame, InputError
from vps_ros.segmenters import postprocess
from vps_ros.segmenters.model_card import METADATA_KEY, InputSpec, ModelCard, Thresholds
from vps_ros.segmenters.preprocess import fit
from vps_ros.segmenters.segment_map import from_segment_map
from vps_ros.taxonomy import ClassInfo, Taxonomy

onnx = pytest.importorskip("onnx")
import onnxruntime  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from vps_ros.learning.in_graph.append import LOGITS, append, move_into_graph  # noqa: E402
from vps_ros.learning.in_graph.upsampling import BUDGET  # noqa: E402

TAXONOMY = Taxonomy(
    "small",
    tuple(
        ClassInfo(3 * i + 7, name, i >= 3, (i, i, i)) for i, name in enumerate(("road", "sky", "tree", "car", "cat"))
    ),
)
KINDS = (
    ("softmax_queries", "pixel_wise"),
    ("softmax_queries", "mask_wise"),
    ("sigmoid", "pixel_wise"),
    ("sigmoid", "mask_wise"),
    ("sigmoid", "argmax"),
)
SHARE = 1e-4
"""Of pixels that may differ."""


def network(card, shapes, kind="FLOAT", opset=17):
    """A model that gives what it is given."""
    kind = getattr(TensorProto, kind)
    tensors = [
        [helper.make_tensor_value_info(f"{prefix}{name}", kind, shapes[name]) for name in LOGITS]
        for prefix in ("in_", "")
    ]
    nodes = [helper.make_node("Identity", [f"in_{name}"], [name]) for name in LOGITS]
    graph = helper.make_graph(nodes, "graph", *tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    return model


def through_the_graph(outputs, card, camera, budget=BUDGET, opset=17):
    """Outputs of the model with post-processing."""
    kind = {np.float16: "FLOAT16", np.float32: "FLOAT"}[outputs["mask_logits"].dtype.type]
    model = network(card, {name: outputs[name].shape for name in LOGITS}, kind, opset)
    append(model, camera, "model.onnx", budget)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = session.run(None, {f"in_{name}": outputs[name] for name in LOGITS})
    return dict(zip([o.name for o in session.get_outputs()], results, strict=True))


def both(outputs, card, camera, **how):
    """Segmentations of the host and of the graph."""
    where = fit(card.input, *camera)
    results = through_the_graph(outputs, card, camera, **how)
    host = postprocess.from_logits(outputs, where, card.taxonomy, card.thresholds, card.mask_activation)
    return host, from_segment_map(results, where, card.taxonomy, where)


def check(host, graph, allowed):
    """The same segments, and the same map but for this number of pixels."""
    differs = int((host.map != graph.map).sum())
    assert differs <= allowed, f"{differs} of {host.map.size} pixels differ"
    assert host.class_ids.tolist() == graph.class_ids.tolist()
    assert host.is_thing.tolist() == graph.is_thing.tolist()
    np.testing.assert_allclose(host.scores, graph.scores, rtol=1e-3)
    np.testing.assert_array_equal(host.embeddings, graph.embeddings)
    assert np.abs(host.areas - graph.areas).max(initial=0) <= differs
    if not differs:
        np.testing.assert_array_equal(host.boxes, graph.boxes)


def logits(rng, queries, nodes, blur, height, sure, kind=np.float32):
    """Outputs of a network: masks like regions with soft borders, classes of `sure` logits above the others."""
    masks = rng.normal(size=(1, queries, *nodes))
    for axis in (2, 3):
        for _ in range(blur):
            masks = masks + np.roll(masks, 1, axis)
    masks *= height / max(masks.std(), 0.1)
    # Squares of the exponentials of larger differences are 0 on some processors and subnormal on others.
    masks *= min(1, 20 / np.abs(masks).max())
    classes = rng.normal(size=(1, queries, len(TAXONOMY) + 1))
    classes[0, np.arange(queries), rng.integers(0, classes.shape[2], queries)] += sure
    return {
        "class_logits": classes.astype(kind),
        "mask_logits": masks.astype(kind),
        "query_embeddings": rng.normal(size=(1, queries, 3)).astype(kind),
    }


scenes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "kind": st.sampled_from(KINDS),
        "queries": st.integers(1, 40),
        "nodes": st.tuples(st.integers(2, 14), st.integers(2, 18)),
        "camera": st.tuples(st.integers(1, 120), st.integers(1, 160)),
        "blur": st.integers(0, 3),
        "height": st.sampled_from([0.5, 2.0, 8.0, 60.0]),
        "sure": st.sampled_from([0.0, 2.0, 6.0]),
        "mask": st.sampled_from([0.0, 0.1, 0.34, 0.4, 0.5, 0.7]),
        "overlap": st.sampled_from([0.0, 0.3, 0.5, 0.8, 0.9]),
        "exponents": st.sampled_from([(1.0, 0.0), (1.0, 1.0), (0.5, 2.0)]),
        "areas": st.sampled_from([(0, 0), (2, 9)]),
        "grid": st.sampled_from([0, 0, 11]),
        "things_first": st.booleans(),
        "keep_aspect": st.booleans(),
        "align_corners": st.booleans(),
        "budget": st.sampled_from([1, 60_000, BUDGET]),
    }
)


def arrange(scene):
    activation, mode = scene["kind"]
    limits = Thresholds(
        thing=0.3,
        stuff=0.25,
        overlap=scene["overlap"],
        mask=scene["mask"],
        class_exponent=scene["exponents"][0],
        mask_exponent=scene["exponents"][1],
        thing_area=scene["areas"][0],
        stuff_area=scene["areas"][1],
        mode=mode,
        mask_grid=scene["grid"] if mode == "argmax" else 0,
        things_first=scene["things_first"],
    )
    height, width = (4 * n for n in scene["nodes"])
    spec = InputSpec(height, width, keep_aspect=scene["keep_aspect"], align_corners=scene["align_corners"])
    rng = np.random.default_rng(scene["seed"])
    outputs = logits(rng, scene["queries"], scene["nodes"], scene["blur"], scene["height"], scene["sure"])
    return outputs, ModelCard("scene", TAXONOMY, spec, activation, limits)


def faint_queries_count(nodes, where):
    """Whether queries that the host leaves out win a pixel, or have more than 1e-4 of its probability together."""
    values = at_input(nodes, where)
    p = np.exp(values - values.max(0))
    p /= p.sum(0)
    relative = nodes - nodes.max(0)
    beaten, far = (at_input((relative > -margin).astype(np.float32), where) == 0 for margin in (4, 10))
    return (beaten & (p == p.max(0))).any() or (far * p).sum(0).max() > 1e-4


@settings(max_examples=120, deadline=None)
@given(scenes)
def test_the_graph_gives_what_the_host_gives(scene):
    outputs, card = arrange(scene)
    # The host leaves out queries that are far behind at every node around a pixel, whatever they are in between.
    if card.mask_activation == "softmax_queries":
        assume(not faint_queries_count(outputs["mask_logits"][0], fit(card.input, *scene["camera"])))
    host, graph = both(outputs, card, scene["camera"], budget=scene["budget"])
    # Logits that are random down to the pixel have ties that no rounding settles alike.
    check(host, graph, max(3, SHARE * host.map.size))


@pytest.mark.parametrize(("activation", "mode"), KINDS)
@pytest.mark.parametrize("camera", [(192, 640), (375, 1242)])
def test_a_street(activation, mode, camera):
    """Many queries at the sizes of a camera and of a network's input."""
    outputs = logits(np.random.default_rng(1), 30, (48, 160), 3, 6.0, 8.0)
    # Above zero is the largest only.
    outputs["mask_logits"] -= np.sort(outputs["mask_logits"], axis=1)[:, -2:-1]
    limits = Thresholds(thing=0.3, stuff=0.3, overlap=0.5, mask=0.4, thing_area=9, stuff_area=30, mode=mode)
    card = ModelCard("street", TAXONOMY, InputSpec(192, 640), activation, limits)
    host, graph = both(outputs, card, camera)
    assert len(host) >= 4
    check(host, graph, SHARE * host.map.size)


def test_masks_that_hang_on_one_another():
    """Each of ten masks covers half of the next, which is pasted only where the one before it is not."""
    masks = np.full((10, 4, 24), -20.0)
    for q, mask in enumerate(masks):
        mask[:, 2 * q : 2 * q + 4] = 20
    classes = np.zeros((1, 10, 6))
    classes[0, :, 3] = np.linspace(9, 8, 10)
    outputs = {"class_logits": classes, "mask_logits": masks[None], "query_embeddings": np.zeros((1, 10, 2))}
    outputs = {name: values.astype(np.float32) for name, values in outputs.items()}
    limits = Thresholds(overlap=0.6, mask=0.4)
    for activation in ("softmax_queries", "sigmoid"):
        card = ModelCard("chain", TAXONOMY, InputSpec(4, 24), activation, limits)
        host, graph = both(outputs, card, (4, 24))
        check(host, graph, 0)
        # The second has half left, which is too little; so the third has everything, and the fourth too little again.
        assert graph.map[0].tolist() == [1 + i // 4 for i in range(20)] + [0] * 4


def test_a_threshold_of_zero_counts_every_node():
    """Also one whose probability is 0 in float32: the mean over four nodes is then 0.75."""
    masks = np.full((1, 1, 2, 2), 200, np.float32)
    masks[0, 0, 0, 0] = -200
    classes = np.array([[[0, 0, 0, 50, 0, 0]]], np.float32)
    outputs = {"class_logits": classes, "mask_logits": masks, "query_embeddings": np.zeros((1, 1, 2), np.float32)}
    for mode in ("mask_wise", "pixel_wise", "argmax"):
        limits = Thresholds(mask=0.0, overlap=0.0, mask_exponent=1.0, mode=mode)
        host, graph = both(outputs, ModelCard("corner", TAXONOMY, InputSpec(8, 8), "sigmoid", limits), (8, 8))
        assert host.scores.tolist() == graph.scores.tolist() == [0.75]


def test_things_of_small_scores_are_in_their_order():
    """Two masks of one pixel with probabilities of 1e-9 and 1e-7; the second thing is ranked first and gets it."""
    masks = np.log(np.array([1, 1e-9, 1e-7], np.float32)).reshape(1, 3, 1, 1)
    classes = np.array([[[9, 0, 0, 0, 0, 0], [0, 0, 0, 9, 0, 0], [0, 0, 0, 0, 9, 0]]], np.float32)
    outputs = {"class_logits": classes, "mask_logits": masks, "query_embeddings": np.zeros((1, 3, 2), np.float32)}
    limits = Thresholds(mask=0.0, overlap=0.0, mask_exponent=1.0, mode="mask_wise", things_first=True)
    card = ModelCard("small scores", TAXONOMY, InputSpec(4, 4), "softmax_queries", limits)
    for segments in both(outputs, card, (4, 4)):
        assert segments.class_ids.tolist() == [TAXONOMY.ids[4]]


def test_more_segments_than_a_byte_holds():
    """The 255 best are kept; the others become void."""
    n = 18 * 18
    masks = np.full((1, n, 18, 18), -30, np.float32)
    masks[0, np.arange(n), np.arange(n) // 18, np.arange(n) % 18] = 30
    classes = np.zeros((1, n, 6), np.float32)
    classes[0, :, 3] = 6 + np.arange(n) / 100
    outputs = {"class_logits": classes, "mask_logits": masks, "query_embeddings": np.zeros((1, n, 2), np.float32)}
    card = ModelCard("many", TAXONOMY, InputSpec(18, 18), "softmax_queries", Thresholds())
    host, graph = both(outputs, card, (18, 18))
    assert (len(host), len(graph)) == (n, 255)
    np.testing.assert_array_equal(np.where(host.map > 255, 0, host.map), graph.map)


def test_nothing_found():
    outputs = logits(np.random.default_rng(0), 5, (6, 8), 0, 2.0, 0.0)
    card = ModelCard("nothing", TAXONOMY, InputSpec(24, 32), "sigmoid", Thresholds(thing=0.99, stuff=0.99))
    for mode in ("mask_wise", "pixel_wise", "argmax"):
        card = dataclasses.replace(card, thresholds=dataclasses.replace(card.thresholds, mode=mode))
        results = through_the_graph(outputs, card, None)
        assert (results["segment_map"] == 255).all() and (results["slot_class"] == -1).all()
        assert results["segment_map"].shape == (1, 24, 32)


@pytest.mark.parametrize("opset", [16, 18, 20])
def test_every_opset(opset):
    outputs = logits(np.random.default_rng(2), 9, (8, 8), 1, 4.0, 5.0)
    for activation, mode in KINDS:
        card = ModelCard("opset", TAXONOMY, InputSpec(32, 32), activation, Thresholds(mode=mode, thing=0.2, stuff=0.2))
        check(*both(outputs, card, (40, 50), opset=opset), 1)


def test_half_precision_is_computed_as_the_host_does():
    outputs = logits(np.random.default_rng(3), 9, (8, 8), 1, 4.0, 5.0, np.float16)
    card = ModelCard("half", TAXONOMY, InputSpec(32, 32), "sigmoid", Thresholds(mode="pixel_wise", thing=0.2))
    check(*both(outputs, card, (64, 64)), 1)


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_drops_the_frame(name, value):
    outputs = logits(np.random.default_rng(4), 5, (6, 6), 0, 4.0, 9.0)
    outputs[name].reshape(-1)[-1] = value
    card = ModelCard("broken", TAXONOMY, InputSpec(24, 24), "softmax_queries", Thresholds())
    results = through_the_graph(outputs, card, None)
    with pytest.raises(DroppedFrame, match="NaN or infinity in slot_score"):
        from_segment_map(results, fit(card.input, 24, 24), TAXONOMY)


@pytest.mark.parametrize(("activation", "mode"), KINDS)
@pytest.mark.parametrize("mask", [0.2, 0.34, 0.4])
def test_large_pictures_are_worked_off_in_parts(activation, mode, mask):
    """No tensor of the graph exceeds 256 MiB; one loop, and only where three masks or more can share a pixel."""
    shapes = {"class_logits": (1, 100, 6), "mask_logits": (1, 100, 256, 512), "query_embeddings": (1, 100, 3)}
    limits = Thresholds(mode=mode, mask=mask, mask_grid=384 if mode == "argmax" else 0)
    model = network(ModelCard("large", TAXONOMY, InputSpec(1024, 2048), activation, limits), shapes)
    append(model, (1080, 1920), "model.onnx")
    several = mode == "mask_wise" and (activation == "sigmoid" or mask < 0.34)
    loops = [node for node in model.graph.node if node.op_type == "Loop"]
    assert len(loops) == several
    # The loop's body has one query at a time, of which shape inference knows nothing.
    sizes = {}
    for value in onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True).graph.value_info:
        dimensions = [d.dim_value for d in value.type.tensor_type.shape.dim]
        assert all(dimensions), f"{value.name} has no fixed shape"
        each = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).itemsize
        sizes[value.name] = int(np.prod(dimensions, dtype=np.int64)) * each
    assert 50 << 20 <= max(sizes.values()) <= 256 << 20


@pytest.mark.parametrize(("activation", "mode"), KINDS)
def test_kernels_and_features_are_multiplied_in_the_graph(activation, mode):
    outputs = logits(np.random.default_rng(9), 6, (6, 7), 1, 4.0, 9.0)
    kernels = np.random.default_rng(2).normal(size=(1, 6, 3)).astype(np.float32)
    features = 3 * np.random.default_rng(4).normal(size=(1, 3, 6, 7)).astype(np.float32)
    outputs["mask_logits"] = np.einsum("bnd,bdyx->bnyx", kernels, features).astype(np.float32)
    card = ModelCard("factors", TAXONOMY, InputSpec(24, 28), activation, Thresholds(overlap=0.1, mode=mode))
    shapes = {name: value.shape for name, value in outputs.items()}
    model = network(card, shapes)
    for name, value in (("mask_kernels", kernels), ("mask_features", features)):
        model.graph.initializer.append(numpy_helper.from_array(value, f"value_{name}"))
        model.graph.node.append(helper.make_node("Identity", [f"value_{name}"], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    del model.graph.output[1], model.graph.input[1], model.graph.node[1]  # mask_logits
    append(model, None, "model.onnx")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {f"in_{name}": outputs[name] for name in ("class_logits", "query_embeddings")}
    results = dict(zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True))
    where = fit(card.input, 24, 28)
    host = postprocess.from_logits(outputs, where, TAXONOMY, card.thresholds, activation)
    assert len(host) >= 1
    check(host, from_segment_map(results, where, TAXONOMY, where), 3)


def test_other_outputs_stay():
    outputs = logits(np.random.default_rng(5), 5, (6, 6), 0, 4.0, 9.0)
    card = ModelCard("state", TAXONOMY, InputSpec(24, 24), "softmax_queries", Thresholds())
    model = network(card, {name: outputs[name].shape for name in LOGITS})
    # The state is the masks themselves, under another name.
    model.graph.node.append(helper.make_node("Identity", ["mask_logits"], ["next_state_masks"]))
    model.graph.output.append(helper.make_tensor_value_info("next_state_masks", TensorProto.FLOAT, [1, 5, 6, 6]))
    append(model, None, "model.onnx")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (state,) = session.run(["next_state_masks"], {f"in_{name}": outputs[name] for name in LOGITS})
    np.testing.assert_array_equal(state, outputs["mask_logits"])
    assert ModelCard.from_json(model.metadata_props[0].value, "model").camera == (24, 24)


@pytest.mark.parametrize(
    ("change", "spec", "limits", "message"),
    [
        (lambda m: m.metadata_props.pop(), {}, {}, "has no metadata 'vps_ros'"),
        (lambda m: m.graph.output.pop(), {}, {}, "imported without query embeddings"),
        (lambda m: m.graph.output[1].type.tensor_type.shape.dim[2].Clear(), {}, {}, "'mask_logits' has no fixed shape"),
        (lambda m: setattr(m.opset_import[0], "version", 15), {}, {}, "is of ONNX opset 15"),
        (lambda m: None, {"keep_aspect": True}, {}, "pass --camera"),
        (lambda m: None, {}, {"rank_threshold": True}, "has thresholds of ranks"),
    ],
)
def test_what_cannot_be_done_is_said(change, spec, limits, message, tmp_path):
    card = ModelCard("refused", TAXONOMY, InputSpec(24, 24, **spec), thresholds=Thresholds(**limits))
    shapes = {"class_logits": (1, 5, 6), "mask_logits": (1, 5, 6, 6), "query_embeddings": (1, 5, 3)}
    model = network(card, shapes)
    change(model)
    with pytest.raises(InputError, match=message) as caught:
        append(model, None, "model.onnx")
    assert "\n" not in str(caught.value) and "model.onnx" in str(caught.value)
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    before = path.read_bytes()
    with pytest.raises(InputError, match=message):
        move_into_graph(path, None, "model.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"] and path.read_bytes() == before
