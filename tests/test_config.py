"""The configuration: what it refuses and in which words, what names a run, overlays, parameters."""

import json

import pytest
import yaml
from other_values import OTHER
from pydantic import ValidationError

from gmelib.config import PROJECT_ROOT, Config, InputError, parameters_cell, read_yaml, resolve
from gmelib.fields import DATASET_ONLY, PLUMBING, STUDENT_ONLY

PLAIN = Config(overlays=[])
PRESETS = sorted((PROJECT_ROOT / "params").glob("*.yaml"))


def message(call, *args, **kwargs):
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, nearest",
    [
        ("lr", "lr_size"), ("learnin_rate", "learning_rate"), ("kd_map", "kd_maps"),
        ("Epochs", "epochs"),
    ],
)
def test_an_unknown_key_names_a_field_like_it(name, nearest):
    text = message(Config.make, **{name: 1})
    assert repr(name) in text and "did you mean" in text
    assert text.split("did you mean ")[1].split("'")[1] in Config.model_fields
    if name in ("learnin_rate", "Epochs"):
        assert f"did you mean {nearest!r}?" in text


@pytest.mark.parametrize(
    "field, value, expected",
    [
        ("epochs", 0, "greater than or equal to 1"),
        ("learning_rate", -0.1, "greater than 0"),
        ("learning_rate", float("nan"), "finite"),
        ("dropout", 1.0, "less than 1"),
        ("input_size", 50, "multiple of 16"),
        ("width", 6, "multiple of 4"),
        ("kernel", "cubic", "'bicubic'"),
        ("dataset", "rafbd", "'fer2013'"),
        ("blocks", [3, 4, 14], "too few values"),
        ("blocks", [3, 4, 14, 3, 3], "at most 4 items"),
        ("global_blocks", [6, "x"], "integer"),
        ("epochs", "many", "integer"),
        ("flip", "perhaps", "boolean"),
        ("seed", 2**40, "less than"),
        ("learning_rate", float("inf"), "finite"),
    ],
)
def test_a_value_out_of_range_names_the_field_the_value_and_the_range(field, value, expected):
    text = message(Config.make, **{field: value})
    assert field in text and expected in text


def test_all_mistakes_are_named_at_once():
    text = message(Config.make, epochs=0, width=6)
    assert "epochs" in text and "width" in text


def test_fields_that_contradict_each_other_are_refused():
    text = message(Config.make, lr_size=64, input_size=48)
    assert "lr_size = 64" in text and "input_size = 48" in text
    assert "blocks" in message(Config.make, blocks=(3, 0, 14, 3))


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Config().epochs = 3


def test_replace_checks_what_it_changes():
    cfg = Config(epochs=3, width=8)
    assert cfg.replace(width=16) == Config(epochs=3, width=16)
    assert "'epoch'" in message(cfg.replace, epoch=4)
    assert "epochs" in message(cfg.replace, epochs=0)


# -- the hash -------------------------------------------------------------------------------------


def test_published_digests_stay_what_they_are():
    """A change here orphans every finished run: raise SCHEMA with intent or put it back."""
    assert Config().digest("teacher") == "acaa46b6"
    assert Config().digest("student") == "2d012c0c"
    paper = Config.load("params/base.yaml", "params/fer2013.yaml", "params/paper.yaml")
    assert paper.digest("teacher") == Config(dataset="fer2013").digest("teacher")


ELSEWHERE = {n for d, names in DATASET_ONLY.items() if d != "synthetic" for n in names}


def test_this_file_changes_every_field():
    assert set(OTHER) == set(Config.model_fields)


@pytest.mark.parametrize("field", OTHER)
def test_the_digest_changes_with_what_decides_the_figures_and_with_nothing_else(field):
    changed = Config.make(**{field: OTHER[field]})
    counts = field not in (*PLUMBING, *ELSEWHERE, "kd_temperature", "method_options")
    assert (changed.digest("student") != Config().digest("student")) == counts


def test_fields_that_have_no_effect_do_not_count():
    def same(field, value, **context):
        one = Config(**context)
        return one.digest("student") == one.replace(**{field: value}).digest("student")

    assert same("drawn_train", 100, dataset="fer2013")
    assert not same("drawn_train", 100, dataset="synthetic")
    assert same("face_size", 64, dataset="ferplus")
    assert not same("face_size", 64, dataset="folder")
    assert same("kd_maps", "sigmoid", kd_weight=0)
    assert same("decay", 0.5, schedule="cosine")
    assert not same("decay", 0.5, schedule="step")
    assert same("mcb_order", "prose", global_branch=False)
    assert not same("kd_temperature", 2.0, kd="logits")
    assert same("kd_maps", "sigmoid", kd="logits")
    assert not same("method_options", {"depth": 18}, method="eac")
    assert same("width", 16, method="eac") and same("momentum", 0.5, optimizer="adam")


def test_stage_and_parents_count():
    digests = [Config().digest("teacher"), Config().digest("student")]
    digests += [Config().digest("student", teacher=t) for t in ("a", "b")]
    assert len(set(digests)) == 4


def test_students_that_differ_in_resolution_or_distillation_share_a_teacher():
    base = Config(epochs=8, width=8, seed=2)
    for field in STUDENT_ONLY:
        assert base.replace(**{field: OTHER[field]}).teacher() == base.teacher()
    for field in ("epochs", "seed", "width", "attention", "label_smoothing", "limit_train"):
        other = base.replace(**{field: OTHER[field]}).teacher()
        assert other.digest("teacher") != base.teacher().digest("teacher")


# -- YAML files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.name)
def test_every_yaml_file_in_params_loads(path):
    values = yaml.safe_load(path.read_text())
    cfg = Config.load(path)
    for name, value in values.items():
        loaded = getattr(cfg, name)
        assert (list(loaded) if isinstance(loaded, tuple) else loaded) == value


def test_the_paper_preset_is_the_defaults():
    assert Config.load("params/paper.yaml") == PLAIN


def test_later_files_win_and_given_values_over_all(tmp_path):
    (tmp_path / "a.yaml").write_text("epochs: 3\nwidth: 8\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("width: 16\nseed: 2\n")
    cfg = Config.load(tmp_path / "a.yaml", tmp_path / "b.yaml", seed=4)
    assert (cfg.epochs, cfg.width, cfg.seed) == (3, 16, 4)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"epochs: [1", "not readable as YAML"),
        (b"folder_name: 2026-13-45\n", "not readable as YAML (month must be in 1..12)"),
        (b"- epochs\n- width\n", "`name: value` lines, got list"),
        (b"just words\n", "got str"),
        (b"epochs: 0\n", "parameter epochs = 0"),
        (b"epoch: 3\n", "unknown parameter 'epoch': did you mean 'epochs'?"),
        (b"3: 4\n", "unknown parameter"),
        (b"\xff\xfe\x00epochs: 3\n", "not readable as YAML"),
    ],
)
def test_a_bad_yaml_file_is_named_in_one_line(tmp_path, content, expected):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    assert expected in message(Config.load, path)


def test_an_empty_yaml_file_changes_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert Config.load(tmp_path / "empty.yaml") == Config()


def test_a_missing_yaml_file_is_named():
    assert "params/nope.yaml: no such YAML file" in message(read_yaml, "params/nope.yaml")


def test_relative_paths_count_from_the_project_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Config().path("out_root") == PROJECT_ROOT / "outputs"
    assert Config(out_root=str(tmp_path)).cache_dir == tmp_path / ".cache"
    assert Config.load("params/cpu.yaml").epochs == 8
    assert resolve("~/x").is_absolute() and "~" not in str(resolve("~/x"))


# -- notebooks ------------------------------------------------------------------------------------


@pytest.fixture
def cell(monkeypatch):
    """A notebook's globals() right after its parameters cell, outside JupyterLab."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    namespace = {"__name__": "__main__", "_i1": "", "In": ["", "", ""], "Out": {}, "exit": print}
    exec(parameters_cell(), namespace)
    return namespace


@pytest.fixture
def fresh(cell):
    """The same with no overlays."""
    return cell | {"overlays": []}


def test_the_parameters_cell_is_the_defaults(cell, fresh):
    assert Config.make(**{name: cell[name] for name in Config.model_fields}) == Config()
    assert Config.from_namespace(fresh) == PLAIN


def test_the_parameters_cell_explains_every_field():
    lines = [line for line in parameters_cell().splitlines() if not line.startswith("#")]
    assert len(lines) == len(Config.model_fields)
    for line, (name, field) in zip(lines, Config.model_fields.items(), strict=True):
        assert line.startswith(f"{name}: ") and line.endswith(f"  # {field.description}")


@pytest.mark.parametrize(
    "given, files",
    [("params/smoke.yaml", 1), ('["params/smoke.yaml"]', 1), ("", 0), (None, 0)],
)
def test_overlays_may_be_one_file_or_none(cell, given, files):
    names = ["params/smoke.yaml"][:files]
    assert Config.from_namespace(cell | {"overlays": given}) == Config.load(*names, overlays=names)
    assert "overlays.0 = 5" in message(Config.from_namespace, cell | {"overlays": 5})


def test_the_kernels_own_names_and_objects_are_no_parameters(fresh):
    fresh |= {"PAPERMILL_INPUT_PATH": "x.ipynb", "json": json, "Config": Config, "_": 3}
    assert Config.from_namespace(fresh) == PLAIN


def test_a_parameter_reaches_the_configuration(fresh):
    assert Config.from_namespace(fresh | {"epochs": 7, "blocks": [1, 1, 1, 1]}) == PLAIN.replace(
        epochs=7, blocks=(1, 1, 1, 1)
    )


@pytest.mark.parametrize("value", [7, 0.1, "x", True, None, [1], {"a": 1}])
def test_a_misspelt_parameter_stops_a_batch(fresh, value):
    text = message(Config.from_namespace, fresh | {"epoch": value})
    assert "unknown parameter 'epoch': did you mean 'epochs'?" in text


def test_a_misspelt_parameter_stops_papermill_started_within_jupyterlab(fresh, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/someone/02_teacher.ipynb")  # inherited
    fresh["In"] = ["", "", "# Parameters\nepoch = 7\n", ""]
    assert "did you mean 'epochs'?" in message(Config.from_namespace, fresh | {"epoch": 7})


def test_a_misspelt_parameter_warns_in_jupyterlab(fresh, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/someone/02_teacher.ipynb")
    with pytest.warns(UserWarning, match="did you mean 'epochs'"):
        cfg = Config.from_namespace(fresh | {"epoch": 7, "width": 8})
    assert cfg == PLAIN.replace(width=8)


def test_a_kernel_in_which_other_cells_ran_counts_as_interactive(fresh):
    with pytest.warns(UserWarning, match="unknown parameter 'accuracy'"):
        Config.from_namespace(fresh | {"In": [""] * 9, "accuracy": 0.5})


def test_batch_is_strict_even_where_it_looks_interactive(fresh, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/someone/02_teacher.ipynb")
    assert "'epoch'" in message(Config.from_namespace, fresh | {"epoch": 7, "batch": True})


def test_overlays_are_loaded_and_given_parameters_win(fresh, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 3\nwidth: 8\nblocks: [1, 1, 1, 1]\noverlays: []\n")
    cfg = Config.from_namespace(fresh | {"overlays": [str(path)], "width": 16})
    assert (cfg.epochs, cfg.width, cfg.blocks) == (3, 16, (1, 1, 1, 1))
    expected = Config(epochs=3, width=16, blocks=(1, 1, 1, 1))
    assert cfg.digest("teacher") == expected.digest("teacher")
    assert cfg.overlays == [str(path)]  # so that the notebook says what it loaded


def test_what_papermill_was_given_wins_over_overlays_even_where_it_is_the_default(cell):
    default = Config().epochs
    assert Config.load(*Config().overlays).epochs != default
    source = f"# Parameters\nepochs = {default}\nblocks = [1, 1, 1, 1]\n"
    given = {"epochs": default, "blocks": [1, 1, 1, 1], "In": ["", "", source]}
    cfg = Config.from_namespace(cell | given)
    assert (cfg.epochs, cfg.blocks) == (default, (1, 1, 1, 1))
    assert cfg.width == Config.load(*Config().overlays).width


def test_a_notebook_opened_as_it_is_starts_from_the_overlays_it_lists(cell):
    cfg = Config.from_namespace(cell)
    assert cfg.replace(overlays=[]) == Config.load(*Config().overlays, overlays=[])


def test_a_missing_overlay_is_named(fresh):
    text = message(Config.from_namespace, fresh | {"overlays": ["params/nope.yaml"]})
    assert "params/nope.yaml: no such YAML file" in text


def test_an_error_in_a_notebook_is_its_line_alone():
    assert InputError("what, where")._render_traceback_() == ["InputError: what, where"]
