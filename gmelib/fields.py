"""The configuration's fields by what they mean for a run: which of them count where."""

# The compared methods' names in the parameter `method`, in the order of the paper's Table 1, and
# the plain baselines; gmelib.methods registers them.
METHOD_NAMES = (
    "gmenet", "ma_net", "ada_cm", "eac", "poster", "diversified", "resnet18", "mobilenet_v3_small",
)  # fmt: skip

# Which runs a table is made of; none of them knows which tables it will stand in.
TABLES = (
    "rows", "seeds", "sweeps", "sweep_epochs", "methods", "modes", "peers", "train_missing",
)  # fmt: skip
# Fields that never change a figure, or are recorded by what really ran.
PLUMBING = (
    "data_root", "device", "num_threads", "out_root", "teacher_run", "faces_shown", "export",
    "overlays", "force", "batch", "resamples", "compile", "predict_paths", *TABLES,
)  # fmt: skip
# These name places on one machine, or say how a run was started; a record is read on others.
PRIVATE = {
    "data_root", "out_root", "teacher_run", "overlays", "batch", "force", "predict_paths", *TABLES,
}  # fmt: skip
STUDENT_ONLY = (
    "lr_size", "kernel", "blur_sigma", "kd", "kd_weight", "kd_temperature", "kd_reduction",
    "kd_maps", "train_on", "teacher_run",
)  # fmt: skip
DATA = (
    "dataset", "drop_duplicates", "input_size", "lr_size", "kernel", "blur_sigma", "limit_train",
)  # fmt: skip
DATASET_ONLY = {
    "synthetic": ("drawn_size", "drawn_train", "drawn_validation", "drawn_test", "drawn_contempt"),
    "fer2013": ("val_fraction",),  # in the layout of image folders, which has no validation split
    "ferplus": ("ferplus_rule", "ferplus_ties", "ferplus_unknown", "ferplus_contempt"),
    "rafdb": ("rafdb_faces", "face_size", "val_fraction"),
    "expw": ("expw_align", "expw_confidence", "face_size", "val_fraction"),
    "folder": ("folder_name", "face_size", "val_fraction"),
}
GMENET_ONLY = (
    "attention", "global_branch", "width", "blocks", "global_blocks", "head", "reduction",
    "dbam_kernel", "mcb_order", "dropout",
)  # fmt: skip
# What makes a network; a teacher for attention distillation is built the same.
ARCHITECTURE = (
    "method", "method_options", "input_size", "attention", "global_branch", "width", "blocks",
    "global_blocks", "head", "reduction", "dbam_kernel", "mcb_order",
)  # fmt: skip
