"""One face at a time, in JupyterLab: teacher beside student, with sliders for the degradation."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure

from gmelib import figures
from gmelib.attribution import METHODS, attention_over_face, attribute
from gmelib.batches import View, make_view
from gmelib.checkpoint import load_model
from gmelib.config import Config, InputError
from gmelib.data import FaceSet
from gmelib.degrade import KERNELS
from gmelib.experiment import teacher_of
from gmelib.record import PUBLISHED, Run, read_facts

LARGEST = 48  # px, of the slider for low resolution
LAYOUT = widgets.Layout(width="24rem")
WIDE = {"description_width": "7rem"}


def student_runs(cfg: Config, classes: Sequence[str]) -> dict[str, Run]:
    """Finished students of the data set that can be looked into, by name; published ones last.

    They have attention maps and these classes, and their weights and a teacher's are here.
    """
    found: dict[str, Run] = {}
    for root in (cfg.path("out_root"), PUBLISHED):
        for path in sorted((root / cfg.dataset / "student").glob("*/run.json")):
            facts = read_facts(path.parent)
            config = Config.make(**facts["config"])
            run = Run(config.replace(device=cfg.device), "student", path.parent)
            is_same = cfg.dataset != "folder" or config.folder_name == cfg.folder_name
            if is_same and tuple(facts["classes"]) == tuple(classes) and _has_maps(run):
                found.setdefault(run.id, run)
    return found


def _has_maps(run: Run) -> bool:
    """Whether a student and its teacher are here, and are networks with attention maps."""
    if run.cfg.method != "gmenet" or run.cfg.attention == "none":
        return False
    try:
        places = (run.folder, teacher_of(run).folder)
    except InputError:
        return False
    return all((place / "model.safetensors").is_file() for place in places)


class Explorer:
    """The panel: choose a run, a face and a degradation; see probabilities, maps, attributions.

    Its widgets are attributes, so that they can be set from code as well: ``run``, ``expression``,
    ``face``, ``lr_size``, ``kernel``, ``blur_sigma``, ``method``.

    Raises:
        InputError: where no student of the data set is finished.
    """

    def __init__(self, cfg: Config, faces: FaceSet):
        self.cfg, self.faces = cfg, faces
        self.runs = student_runs(cfg, faces.classes)
        if not self.runs:
            raise InputError(
                f"no finished student of {cfg.dataset} with attention maps and its teacher under "
                f"{cfg.out_root}/; run the notebooks 02_teacher and 03_student_distillation first"
            )
        self.run = _choice("run", list(self.runs))
        self.expression = _choice("expression", list(faces.classes))
        self.face = _slider("face", 0, 0, 0)
        self.lr_size = _slider("LR size, px", cfg.lr_size, 4, max(cfg.lr_size, 4))
        self.kernel = _choice("kernel", list(KERNELS))
        self.blur_sigma = widgets.FloatSlider(
            cfg.blur_sigma, min=0, max=4, step=0.25, description="blur, px", style=WIDE,
            layout=LAYOUT, continuous_update=False,
        )  # fmt: skip
        self.method = _choice("attribution", list(METHODS))
        self.message = widgets.HTML()
        widths = {"probabilities": "100%", "attention": "100%", "attribution": "60%"}
        self.pictures = {
            name: widgets.Image(format="png", layout=widgets.Layout(width=width))
            for name, width in widths.items()
        }
        self._busy = False
        self._connect()
        self._pick_run()

    @property
    def panel(self) -> widgets.Widget:
        """What the notebook shows."""
        left = widgets.VBox([self.run, self.expression, self.face, self.method])
        right = widgets.VBox([self.lr_size, self.kernel, self.blur_sigma])
        return widgets.VBox([widgets.HBox([left, right]), self.message, *self.pictures.values()])

    def _connect(self) -> None:
        self.run.observe(lambda _: self._pick_run(), "value")
        self.expression.observe(lambda _: self._pick_expression(), "value")
        for control in (self.face, self.lr_size, self.kernel, self.blur_sigma, self.method):
            control.observe(lambda _: self.update(), "value")

    def _pick_run(self) -> None:
        """Loads both networks and sets the degradation that the student was trained with."""
        run = self.runs[self.run.value]
        self.student, self.teacher = load_model(run), load_model(teacher_of(run))
        self._busy = True  # one drawing for three changes
        self.lr_size.max = min(LARGEST, self.faces.images.shape[-1], run.cfg.input_size)
        self.lr_size.value = run.cfg.lr_size
        self.kernel.value, self.blur_sigma.value = run.cfg.kernel, run.cfg.blur_sigma
        self._busy = False
        self._pick_expression()

    def _pick_expression(self) -> None:
        wanted = self.faces.classes.index(self.expression.value)
        index = self.faces.indices("validation")
        self.index = index[self.faces.labels[index] == wanted]
        self._busy = True
        self.face.max, self.face.value = max(len(self.index) - 1, 0), 0
        self._busy = False
        self.update()

    def views(self) -> tuple[View, View]:
        """What teacher and student see at the widgets' degradation."""
        cfg = self.runs[self.run.value].cfg.replace(
            lr_size=self.lr_size.value, kernel=self.kernel.value, blur_sigma=self.blur_sigma.value
        )
        return make_view(cfg, "teacher"), make_view(cfg, "student")

    def update(self) -> None:
        """Draws everything anew for the widgets' values."""
        if self._busy:
            return
        if not len(self.index):
            self.message.value = f"No validation face shows {self.expression.value}."
            for picture in self.pictures.values():
                picture.value = b""
            return
        native = self.faces.images[self.index[[self.face.value]]]
        inputs = [view(native) for view in self.views()]
        with torch.inference_mode():
            outputs = [m.eval()(x) for m, x in zip(self._networks(), inputs, strict=True)]
        chances = [output.logits.softmax(1)[0] for output in outputs]
        cfg = self.runs[self.run.value].cfg
        low, high = f"{cfg.lr_size} px", "high resolution"
        trained = {"lr": low, "hr": high, "lr+hr": f"{low} and {high}"}[cfg.train_on]
        self.message.value = (
            f"Face {self.face.value + 1} of {len(self.index)}; the student was trained at "
            f"{trained} and sees {self.lr_size.value} px. Below, teacher on the left or above."
        )
        self._draw(
            probabilities=figures.probability_bars(
                dict(zip(("teacher", "student"), chances, strict=True)),
                self.faces.classes,
                true=self.expression.value,
            ),
            attention=self._attention(inputs, outputs),
            attribution=self._attribution(inputs, chances),
        )

    def _networks(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        return self.teacher, self.student

    def _attention(self, inputs: list[torch.Tensor], outputs: list[Any]) -> Figure:
        size = inputs[0].shape[-1]
        maps = [
            attention_over_face(output, model.stage_of_block, size)[0]
            for model, output in zip(self._networks(), outputs, strict=True)
        ]
        return figures.attention_maps(inputs[0][0], maps[0], inputs[1][0], maps[1])

    def _attribution(self, inputs: list[torch.Tensor], chances: list[torch.Tensor]) -> Figure:
        method = self.method.value
        guesses = [int(c.argmax()) for c in chances]
        maps = [
            attribute(model, x, [guess], method)
            for model, x, guess in zip(self._networks(), inputs, guesses, strict=True)
        ]
        return figures.attribution_grid(
            torch.cat(inputs),
            {method: torch.cat(maps)},
            true=[self.expression.value] * 2,
            predicted=[self.faces.classes[g] for g in guesses],
            probability=[float(c.max()) for c in chances],
        )

    def _draw(self, **drawn: Any) -> None:
        for name, figure in drawn.items():
            self.pictures[name].value = figure._repr_png_()


def _choice(description: str, options: list[str]) -> widgets.Dropdown:
    return widgets.Dropdown(options=options, description=description, style=WIDE, layout=LAYOUT)


def _slider(description: str, value: int, low: int, high: int) -> widgets.IntSlider:
    return widgets.IntSlider(
        value, min=low, max=high, description=description, style=WIDE, layout=LAYOUT,
        continuous_update=False,
    )  # fmt: skip
