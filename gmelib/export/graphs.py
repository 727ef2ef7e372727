"""The files of an export: torch.export's program and ONNX, in float32 and in 8 bit."""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from gmelib.config import InputError
from gmelib.export.module import Deployable

OPSET = 18  # of ONNX's operators; the one that torch writes without converting
INPUT, OUTPUT, BATCH = "faces", "probabilities", "N"
QUANTIZED = ("Conv", "Gemm", "MatMul")  # operators that hold weights
INSTALL = "pip install -c constraints.txt -e '.[export]'"


def require_onnx() -> None:
    """:class:`InputError` with the command that installs them where packages are missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"export: {error.name or 'a package'} is not installed; onnx, onnxruntime and "
            f"onnxscript are needed: {INSTALL}"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of torch's exporter about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# -- torch ----------------------------------------------------------------------------------------


def to_program(module: Deployable, example: Tensor) -> ExportedProgram:
    """torch.export's program of a network, for any number of faces.

    Args:
        example: two faces or more, (N, C, S, S) uint8; the program takes this C and S alone.
    """
    with torch.no_grad(), _quiet():
        module(example)  # makes the matrices that resize; made while tracing, they would be no data
        program = torch.export.export(module, (example,), dynamic_shapes=({0: Dim(BATCH, min=1)},))
    for graph_module in program.graph_module.modules():
        if isinstance(graph_module, GraphModule):
            for node in graph_module.graph.nodes:
                node.meta.pop("stack_trace", None)  # names files of this machine
    return program


# -- ONNX -----------------------------------------------------------------------------------------


def write_onnx(program: ExportedProgram, path: Path, metadata: Mapping[str, Any]) -> None:
    """The same as an ONNX file, checked by ONNX itself.

    Args:
        metadata: written into the model as JSON, one key a fact.
    """
    import onnx

    with _quiet():
        exported = torch.onnx.export(
            program, (), dynamo=True, verbose=False, opset_version=OPSET,
            input_names=[INPUT], output_names=[OUTPUT],
        )  # fmt: skip
    model = exported.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # traces of this machine, and larger than the graph
    del model.graph.value_info[:]
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    onnx.helper.set_model_props(model, {k: _text(v) for k, v in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read_metadata(path: Path) -> dict[str, str]:
    """What an ONNX file says of itself: run, classes, input, ..."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}


def session(path: Path, threads: int) -> Any:
    """ONNX Runtime's session of a file, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


# -- 8 bit ----------------------------------------------------------------------------------------


def quantize(source: Path, target: Path, calibration: Tensor, *, batch_size: int = 64) -> None:
    """An ONNX file with weights and activations of 8 bit (QDQ, a scale for every channel).

    What comes before the first convolution stays as it is: it makes the network's input.

    Args:
        calibration: faces (N, C, S, S) uint8 from which the ranges of activations are learnt.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".prepared")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)  # folds BatchNorm
    model = onnx.load(prepared)
    quantize_static(
        model,
        str(target),
        _Batches(calibration.split(batch_size)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,  # the fast kind on x86 ...
        reduce_range=True,  # ... which overflows there without VNNI, unless weights have 7 bits
        op_types_to_quantize=list(QUANTIZED),
        nodes_to_exclude=before_first_convolution(model),
    )
    prepared.unlink()


def before_first_convolution(model: Any) -> list[str]:
    """Names of the nodes of an ONNX model that no convolution comes before."""
    convolved: set[str] = set()
    names = []
    for node in model.graph.node:  # sorted: a node comes after those that it reads
        if node.op_type == "Conv" or convolved & set(node.input):
            convolved |= set(node.output)
        else:
            names.append(node.name)
    return names


class _Batches:
    """Batches of faces, one after the other, as onnxruntime's calibration asks for them."""

    def __init__(self, batches: Iterable[Tensor]):
        self._left = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._left, None)
        return None if batch is None else {INPUT: batch.numpy()}
