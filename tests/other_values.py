"""A value that differs from the default, of every parameter."""

OTHER = {
    "dataset": "fer2013", "data_root": "elsewhere", "folder_name": "mine", "face_size": 64,
    "val_fraction": 0.2, "drawn_size": 64, "drawn_train": 100, "drawn_validation": 100,
    "drawn_test": 100, "drawn_contempt": True, "input_size": 48, "lr_size": 14, "kernel": "box",
    "blur_sigma": 0.0, "attention": "cbam", "global_branch": False, "width": 16,
    "blocks": (1, 1, 1, 1), "global_blocks": (1, 1), "head": "gap", "reduction": 8,
    "dbam_kernel": 3, "mcb_order": "prose", "dropout": 0.0, "kd_weight": 1.0,
    "kd_reduction": "mean", "kd_maps": "sigmoid", "epochs": 3, "batch_size": 32,
    "learning_rate": 0.2, "schedule": "cosine", "decay": 0.5, "decay_every": 10, "momentum": 0.5,
    "weight_decay": 0.0, "label_smoothing": 0.1, "flip": False, "shift": 2, "ema": 0.9, "seed": 3,
    "deterministic": False, "limit_train": 50, "select": "last", "flip_average": False,
    "resamples": 100, "device": "cpu", "precision": "bfloat16", "compile": True, "num_threads": 2,
    "out_root": "elsewhere", "teacher_run": "outputs/x", "faces_shown": "drawn", "export": "png",
    "overlays": ["params/cpu.yaml"], "force": True, "batch": True, "rows": ["GME-Net"],
    "seeds": [1, 2], "sweeps": [], "sweep_epochs": 1, "train_missing": False, "method": "eac",
    "method_options": {"depth": 18}, "kd": "logits", "kd_temperature": 2.0, "train_on": "hr",
    "optimizer": "adam", "sam_rho": 0.05, "methods": ["eac"], "modes": ["hr"], "peers": "smoke",
    "drop_duplicates": "exact", "ferplus_rule": "soft", "ferplus_ties": "keep",
    "ferplus_unknown": "ignore", "ferplus_contempt": False, "rafdb_faces": "original",
    "expw_align": "boxes", "expw_confidence": 50.0, "predict_paths": ["faces"],
}  # fmt: skip
