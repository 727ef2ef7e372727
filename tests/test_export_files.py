"""The folder of an export: whole, checked and self-describing, or not there."""

import hashlib
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from gmelib import record
from gmelib.card import FILES, card_of
from gmelib.config import PROJECT_ROOT, InputError
from gmelib.evaluate import load_predictions
from gmelib.export import bundle, export_run, graphs, run_in, sample, summary
from gmelib.export.__main__ import main
from gmelib.export.checks import BATCHES, TOLERANCE, by_onnx, in_batches
from gmelib.record import Run

onnx = pytest.importorskip("onnx", reason="pip install .[export]")
pytest.importorskip("onnxruntime", reason="pip install .[export]")
pytest.importorskip("onnxscript", reason="pip install .[export]")

NAMES = {bundle.PROGRAM, bundle.ONNX, bundle.INT8, bundle.RECORD, *FILES}
FACES = tiny.faces()
# more test faces, so that every batch size is met
MANY = tiny.faces(sizes=tiny.SIZES | {"test": 80})


def facts_of(place: Path) -> dict:
    return json.loads((place / bundle.RECORD).read_text())


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A student's export, made beside its data."""
    place = tmp_path_factory.mktemp("exported") / "here"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "find_faces", lambda run, data_root: MANY)
        yield export_run(tiny.run_of(finished), place)


@pytest.fixture
def student(root: Path) -> Run:
    return tiny.run_of(root)


# -- what is there --------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_files_are_there_and_agree(exported: Path, finished: Path) -> None:
    assert {path.name for path in exported.iterdir()} == NAMES
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]
    facts = facts_of(exported)
    for name, told in facts["files"].items():
        content = (exported / name).read_bytes()
        assert (told["bytes"], told["sha256"]) == (
            len(content),
            hashlib.sha256(content).hexdigest(),
        )
    found = [gap for kind in facts["greatest_differences"].values() for gap in kind.values()]
    assert len(found) == 6 and max(found) <= TOLERANCE == facts["tolerance"]
    assert facts["checked_batches"] == list(BATCHES)
    assert len(facts["latency"]) == 4 * 3 and facts["threads"] == torch.get_num_threads()
    assert facts["versions"]["onnxruntime"] and facts["run"] == tiny.run_of(finished).id


@pytest.mark.slow
def test_onnx_gives_the_records_probabilities(exported: Path, finished: Path) -> None:
    run = tiny.run_of(finished)
    images = sample.take(FACES, run.cfg, sample.Signature(1, 8)).test
    found = in_batches(by_onnx(graphs.session(exported / bundle.ONNX, 1)), images)
    expected = load_predictions(run.folder).filter(like="p_").to_numpy()
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.slow
def test_every_file_says_what_it_is(exported: Path, finished: Path) -> None:
    run = tiny.run_of(finished)
    extra = {bundle.ABOUT: ""}
    torch.export.load(exported / bundle.PROGRAM, extra_files=extra)
    about = json.loads(extra[bundle.ABOUT])
    for name in (bundle.ONNX, bundle.INT8):
        told = graphs.read_metadata(exported / name)
        assert told["run"] == about["run"] == run.id
        assert json.loads(told["classes"]) == about["classes"] == list(tiny.CLASSES)
        assert json.loads(told["input"])["shape"] == ["N", 1, 8, 8]
        assert json.loads(told["flip_average"]) == run.cfg.flip_average
    assert json.loads((exported / FILES[0]).read_text()) == card_of(run.folder)


@pytest.mark.slow
def test_no_file_names_a_place_on_this_machine(exported: Path) -> None:
    places = [str(PROJECT_ROOT).encode(), sys.prefix.encode()]
    for path in exported.iterdir():
        content = [path.read_bytes()]
        if path.name == bundle.PROGRAM:
            with zipfile.ZipFile(path) as archive:
                content += [archive.read(name) for name in archive.namelist()]
        assert not [p for p in places for c in content if p in c], path.name


@pytest.mark.slow
def test_eight_bits_are_in_the_network_and_measured(exported: Path) -> None:
    model = onnx.load(exported / bundle.INT8)
    producers = {name: node for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert convolutions
    for node in convolutions:
        assert {producers[i].op_type for i in node.input[:2]} == {"DequantizeLinear"}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    made = {producers[i].op_type for node in products for i in node.input if i in producers}
    assert made and "DequantizeLinear" not in made, "what makes the input stays in float"
    cost = facts_of(exported)["int8"]
    assert cost["faces"] == 80 and cost["measured_on"] == "test faces of synthetic"
    assert cost["accuracy_loss"] == pytest.approx(cost["accuracy_float32"] - cost["accuracy_int8"])
    assert 0 < cost["greatest_difference"] < 0.5 and cost["agreement"] > 0.5


@pytest.mark.slow
def test_summary_names_every_figure(exported: Path) -> None:
    text = summary(facts_of(exported))
    for name in (bundle.PROGRAM, bundle.ONNX, bundle.INT8, "int8 agrees", "noise", "milliseconds"):
        assert name in text
    facts = facts_of(exported)
    for name in ("accuracy_loss", "accuracy_int8", "accuracy_float32"):
        del facts["int8"][name]
    assert "its accuracy is not known" in summary(facts)


# -- what is refused, and leaves nothing ----------------------------------------------------------


@pytest.mark.slow
def test_a_file_that_differs_is_no_export(
    exported: Path, student: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(exported / bundle.ONNX)
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    changed = np.frombuffer(weight.raw_data, np.float32) * np.float32(1.01)
    weight.raw_data = changed.tobytes()
    spoilt = tmp_path / "spoilt.onnx"
    onnx.save(model, spoilt)
    monkeypatch.setattr(bundle, "write_onnx", lambda program, path, _: shutil.copy(spoilt, path))
    monkeypatch.setattr(bundle, "find_faces", lambda run, data_root: MANY)
    place = tmp_path / "out" / "export"
    text = tiny.refusal(export_run, student, place)
    assert "ONNX Runtime differs" in text and "nothing was written" in text
    assert list(place.parent.iterdir()) == []


@pytest.mark.slow
def test_a_stopped_export_leaves_the_one_before(
    exported: Path, student: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shutil.copytree(exported, tmp_path / "out" / "export")
    before = tiny.snapshot(place)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "to_program", stop)
    with pytest.raises(KeyboardInterrupt):
        export_run(student, place)
    assert tiny.snapshot(place) == before and list(place.parent.iterdir()) == [place]


def test_other_content_is_never_replaced(student: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    text = tiny.refusal(export_run, student, tmp_path)
    assert "is not just an earlier export" in text and "--out" in text
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_missing_packages_are_answered_by_the_command(
    student: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    text = tiny.refusal(export_run, student, tmp_path / "export")
    assert "onnxruntime" in text and text.endswith("pip install -c constraints.txt -e '.[export]'")
    assert not (tmp_path / "export").exists()


def test_a_run_without_a_network_is_refused(student: Run, capsys) -> None:
    (student.folder / "model.safetensors").unlink()
    assert main([str(student.folder)]) == 2
    assert "no such weights" in capsys.readouterr().err
    record.write_json(student.folder / "run.json", student.facts() | {"stage": "attention"})
    with pytest.raises(InputError, match="expected the folder of a teacher or a student"):
        run_in(student.folder)


def test_a_full_disk_is_one_line(
    student: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "find_faces", lambda run, data_root: MANY)
    monkeypatch.setattr(bundle, "to_program", tiny.no_space)
    assert "cannot be written" in tiny.refusal(export_run, student, tmp_path / "out" / "export")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "fails, name, advice",
    [("to_program", bundle.PROGRAM, "torch"), ("write_onnx", bundle.ONNX, "torch"),
     ("quantize", bundle.INT8, "--no-int8")],
)  # fmt: skip
def test_what_cannot_be_exported_is_told_in_one_line(
    student: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails, name, advice
) -> None:
    def fail(*_):
        raise RuntimeError("no such operator: aten::frown\nand forty lines")

    for step in ("to_program", "write_onnx"):
        monkeypatch.setattr(bundle, step, lambda *_: None)
    loaded = SimpleNamespace(module=torch.nn.Identity)
    for step in ("save", "load"):
        monkeypatch.setattr(torch.export, step, lambda *_, **__: loaded)
    monkeypatch.setattr(bundle, "session", lambda *_: None)
    monkeypatch.setattr(bundle, "_checked", lambda *_: {})
    monkeypatch.setattr(bundle, "find_faces", lambda run, data_root: MANY)
    monkeypatch.setattr(bundle, fails, fail)
    text = tiny.refusal(export_run, student, tmp_path / "out" / "export")
    assert f"makes no {name} of this network (no such operator: aten::frown)" in text
    assert advice in text and list((tmp_path / "out").iterdir()) == []


# -- where it goes --------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [["server.py"], [bundle.RECORD, "server.py"], [bundle.ONNX]])
def test_a_folder_with_anything_else_in_it_is_refused(tmp_path: Path, others: list[str]) -> None:
    for name in others:
        (tmp_path / name).touch()
    text = tiny.refusal(bundle.refuse_other_content, tmp_path)
    assert ("holds server.py" if "server.py" in others else "has no export.json") in text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


@pytest.mark.slow
def test_the_command_exports_a_teacher_without_its_data(root: Path, monkeypatch, capsys) -> None:
    """An earlier export in the same place is replaced."""
    teacher = tiny.run_of(root, "teacher")
    monkeypatch.setattr(bundle, "find_faces", lambda run, data_root: None)
    place = teacher.folder / "export"
    place.mkdir()
    (place / bundle.RECORD).write_text("{}")
    (place / bundle.INT8).touch()
    given = ["--size", "24", "--channels", "1", "--no-int8", "--no-flip-average"]
    assert main([str(teacher.folder), *given]) == 0
    assert {path.name for path in place.iterdir()} == NAMES - {bundle.INT8}
    facts = facts_of(place)
    assert facts["input"]["shape"] == ["N", 1, 24, 24] and facts["flip_average"] is False
    assert "drawn faces" in facts["greatest_differences"]
    assert "torch.export" in capsys.readouterr().out
