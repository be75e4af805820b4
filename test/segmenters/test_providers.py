"""How models run on a provider: buffers that stay, engines that are kept, and errors that say what to do."""

import dataclasses
import io
import re
import time

import numpy as np
import onnxruntime
import pytest

from vps_ros.config import Config
from vps_ros.errors import InputError
from vps_ros.segmenters import load_segmenter, runtime
from vps_ros.segmenters.runtime import (
    Machine,
    elapsed_time_shown,
    engine_exists,
    engine_folder,
    explain_error,
    operators_on_cpu,
    provider_options,
    session_options,
    this_machine,
)
from vps_ros.segmenters.session import Binding

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

NO_GPU = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="needs a machine without CUDA"
)


def model(nodes, inputs, outputs, constants=(), opsets=(("", 17),)):
    typed = [[helper.make_tensor_value_info(*one) for one in which] for which in (inputs, outputs)]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants]
    graph = helper.make_graph(nodes, "graph", *typed, tensors)
    imports = [helper.make_opsetid(*one) for one in opsets]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def session(content):
    return onnxruntime.InferenceSession(content, session_options(1), providers=["CPUExecutionProvider"])


def summing():
    """Adds the image's mean colour to what it holds in mind, and gives that sum."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Add", ["mean", "state_sum"], ["next_state_sum"]),
        helper.make_node("Identity", ["next_state_sum"], ["sum"]),
    ]
    inputs = [("image", TensorProto.UINT8, [1, 4, 6, 3]), ("state_sum", TensorProto.FLOAT, [1, 3])]
    outputs = [("sum", TensorProto.FLOAT, [1, 3]), ("next_state_sum", TensorProto.FLOAT, [1, 3])]
    return session(model(nodes, inputs, outputs))


def picture(value):
    return np.full((1, 4, 6, 3), value, np.uint8)


class TestBinding:
    def bound(self, on_gpu=False):
        states = {"state_sum": ((1, 3), np.dtype(np.float32))}
        return Binding(summing(), (1, 4, 6, 3), {"sum": np.zeros((1, 3), np.float32)}, states, on_gpu)

    def test_state_goes_on_from_run_to_run_until_a_reset(self):
        binding = self.bound()
        seen = [binding.run(picture(value), onnxruntime.RunOptions())["sum"][0, 0].item() for value in (3, 4, 5)]
        assert seen == [3, 7, 12]
        binding.reset()
        assert binding.run(picture(9), onnxruntime.RunOptions())["sum"].tolist() == [[9, 9, 9]]

    def test_buffers_stay(self):
        binding = self.bound()
        first = binding.run(picture(1), onnxruntime.RunOptions())["sum"]
        second = binding.run(picture(1), onnxruntime.RunOptions())["sum"]
        assert first is second

    def test_a_run_that_is_interrupted_leaves_the_state(self):
        binding, stop = self.bound(), onnxruntime.RunOptions()
        binding.run(picture(2), onnxruntime.RunOptions())
        stop.terminate = True
        with pytest.raises(Exception, match="terminate"):
            binding.run(picture(100), stop)
        assert binding.run(picture(3), onnxruntime.RunOptions())["sum"].tolist() == [[5, 5, 5]]

    @NO_GPU
    def test_without_a_gpu_nothing_is_pinned(self):
        """The image goes through a buffer of its own, as it does where the GPU fetches it."""
        binding = Binding(summing(), (1, 4, 6, 3), {}, {}, on_gpu=True)
        assert not binding.pinned
        assert not runtime.pin(np.zeros(4))
        assert runtime.gpu_name() is None and runtime.driver_version() is None
        runtime.unpin(np.zeros(4))

    def test_what_a_segmenter_gave_does_not_change_with_the_next_frame(self):
        segmenter = load_segmenter(Config(threads=1))
        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, (192, 640, 3), np.uint8) for _ in range(2)]
        result = segmenter(images[0])
        before = {f.name: np.copy(getattr(result, f.name)) for f in dataclasses.fields(result)}
        segmenter(images[1])
        for name, value in before.items():
            np.testing.assert_array_equal(getattr(result, name), value)


class TestEngines:
    MACHINE = Machine("1.22.0", "10.9.0", "12.8", "NVIDIA RTX A4000")

    def folder(self, tmp_path, precision="fp16", content=b"model", **changes):
        path = tmp_path / "net.onnx"
        path.write_bytes(content)
        return engine_folder(path, precision, dataclasses.replace(self.MACHINE, **changes))

    def test_the_folder_is_in_the_users_cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        folder = self.folder(tmp_path)
        assert folder.parent == tmp_path / "cache" / "vps_ros" / "tensorrt"
        assert re.fullmatch(r"net-[0-9a-f]{16}-ort1.22.0-trt10.9.0-cuda12.8-NVIDIA_RTX_A4000-fp16", folder.name)

    def test_whatever_an_engine_depends_on_changes_the_folder(self, tmp_path):
        folders = [
            self.folder(tmp_path),
            self.folder(tmp_path, "fp32"),
            self.folder(tmp_path, content=b"another"),
            self.folder(tmp_path, onnxruntime="1.23.0"),
            self.folder(tmp_path, tensorrt="10.10.0"),
            self.folder(tmp_path, cuda="12.9"),
            self.folder(tmp_path, gpu="NVIDIA H200"),
        ]
        assert len(set(folders)) == len(folders)
        assert self.folder(tmp_path) == folders[0]

    def test_an_engine_is_there_once_tensorrt_has_written_it(self, tmp_path):
        assert not engine_exists(tmp_path)
        (tmp_path / "timing.cache").touch()
        assert not engine_exists(tmp_path)
        (tmp_path / "TensorrtExecutionProvider_TRTKernel_0.engine").touch()
        assert engine_exists(tmp_path)

    def test_how_long_it_takes_is_told(self):
        stream = io.StringIO()
        with elapsed_time_shown("building", every=0.05, stream=stream):
            time.sleep(0.3)
        lines = stream.getvalue().splitlines()
        assert lines[0] == "building: 0:00 so far"
        assert len(lines) >= 3
        assert lines[-1].rstrip() == "building: 0:00, done"

    def test_a_failure_is_told(self):
        stream = io.StringIO()
        with pytest.raises(ValueError), elapsed_time_shown("building", stream=stream):
            raise ValueError
        assert stream.getvalue().splitlines()[-1] == "building: 0:00, failed"

    @NO_GPU
    def test_this_machine(self):
        machine = this_machine()
        assert machine.onnxruntime == onnxruntime.__version__
        assert machine.gpu == "none"

    @NO_GPU
    def test_a_first_start_says_what_it_does(self, tmp_path, monkeypatch, capsys):
        """TensorRT cannot start here, which is found only after its engine was to be built."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        theirs = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: theirs)
        with pytest.raises(InputError, match="provider tensorrt is installed but did not start"):
            load_segmenter(Config(providers=("tensorrt",), tensorrt_fp16=True))
        said = capsys.readouterr().err.splitlines()
        assert re.match(r"TensorRT \S+ builds the fp16 engine of streets-s.onnx for none.*: 0:00 so far", said[0])
        assert said[-1].endswith("failed")


def test_cuda_takes_what_tensorrt_cannot(tmp_path):
    assert provider_options(("cpu",), None, False) == ["CPUExecutionProvider"]
    (name, options), *others = provider_options(("tensorrt", "cpu"), tmp_path, True)
    assert (name, others) == ("TensorrtExecutionProvider", ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert options["trt_engine_cache_path"] == str(tmp_path)
    assert options["trt_fp16_enable"] == "True"
    assert [
        one if isinstance(one, str) else one[0] for one in provider_options(("cuda", "tensorrt"), tmp_path, False)
    ] == [
        "CUDAExecutionProvider",
        "TensorrtExecutionProvider",
    ]


@pytest.mark.skipif(
    not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"), reason="needs a newer ONNX Runtime"
)
def test_operators_that_only_the_cpu_has_are_named():
    """On the CPU alone these are all, but for those that compute sizes."""
    assert operators_on_cpu(summing()) == ("ReduceMean",)


ONE = [("x", TensorProto.FLOAT, [1])]
OUT = [("y", TensorProto.FLOAT, [1])]


def fails(content, feed=None):
    """The error of ONNX Runtime."""
    with pytest.raises(Exception) as caught:
        made = session(content)
        made.run(None, feed)
    return caught.value


class TestErrors:
    def test_an_operator_of_nobody(self):
        node = helper.make_node("Bar", ["x"], ["y"], domain="com.foo")
        message = explain_error(fails(model([node], ONE, OUT, opsets=(("", 17), ("com.foo", 1)))), ("cuda", "cpu"))
        assert message.startswith(f"ONNX Runtime {onnxruntime.__version__} has no operator com.foo:Bar on cuda and cpu")
        assert "\n" not in message

    def test_an_operator_that_its_opset_lacks(self):
        message = explain_error(fails(model([helper.make_node("Gelu", ["x"], ["y"])], ONE, OUT)), ("cpu",))
        assert "no operator Gelu of opset 17 on cpu" in message

    def test_an_operator_that_lacks_the_type(self):
        odd = TensorProto.BFLOAT16
        node = helper.make_node("Mod", ["x", "x"], ["y"], fmod=1)
        message = explain_error(fails(model([node], [("x", odd, [1])], [("y", odd, [1])])), ("cpu",))
        assert "no operator Mod of opset 13 on cpu" in message

    def test_memory_that_is_not_there(self):
        node = helper.make_node("Expand", ["x", "shape"], ["y"])
        content = model([node], ONE, [("y", TensorProto.FLOAT, ["a", "b"])], [("shape", np.array([2**29, 2**29]))])
        error = fails(content, {"x": np.ones(1, np.float32)})
        assert explain_error(error, ("cpu",)).startswith(
            "not enough memory on cpu, 1,099,511,627,776 MiB more were requested; close"
        )
        assert explain_error(error, ("cuda", "cpu")).startswith("not enough GPU memory on cuda and cpu")

    @pytest.mark.parametrize(
        "text",
        [
            "CUDA failure 2: out of memory ; GPU=0 ; hostname=box ; expr=cudaMalloc((void**)&p, size);",
            "CUDNN failure 2: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
            "Cuda Error in allocate: 2 (out of memory)",
        ],
    )
    def test_gpu_memory_that_is_not_there_in_the_words_of_cuda(self, text):
        assert explain_error(RuntimeError(text), ("cuda", "cpu")).startswith(
            "not enough GPU memory on cuda and cpu; close"
        )

    def test_a_file_of_the_future(self):
        node = helper.make_node("Identity", ["x"], ["y"])
        assert "newer" in explain_error(fails(model([node], ONE, OUT, opsets=(("", 99),))), ("cpu",))

    def test_the_others_are_not_guessed_at(self):
        assert explain_error(RuntimeError("something else"), ("cpu",)) is None
