"""The parameters that decide which faces there are, and at which resolution: the base of Config."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


def group(title: str, **kwargs: Any) -> dict[str, Any]:
    """Marks the field that opens a topic in the notebooks' parameters cell."""
    return {"json_schema_extra": {"group": title}, **kwargs}


class DataParameters(BaseModel):
    """Faces and resolution; see :class:`gmelib.config.Config`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: Literal["synthetic", "fer2013", "ferplus", "rafdb", "expw", "folder"] = Field(
        "synthetic",
        description="synthetic (drawn faces), fer2013, ferplus, rafdb, expw or folder",
        **group("data"))
    data_root: str = Field("data", description="folder that holds the data sets, from project root")
    folder_name: str = Field("faces", description="folder: sub-folder of data_root")
    face_size: int = Field(
        0, ge=0, le=1024,
        description="folder, rafdb, expw: side of a face, px; 0: as it is, expw: 112")
    val_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="share of train held out where there is no validation split")
    drop_duplicates: Literal["none", "exact", "near"] = Field(
        "none", description="leave out training faces that stand in validation or test, too")
    ferplus_rule: Literal["majority", "over_half", "soft"] = Field(
        "majority", description="FERPlus label: largest of ten votes, one over half, or all votes")
    ferplus_ties: Literal["drop", "keep"] = Field(
        "drop", description="FERPlus: faces with two largest votes; keep: the first of the two")
    ferplus_unknown: Literal["drop", "ignore"] = Field(
        "drop", description="FERPlus: largest vote unknown or no face; ignore: not counted")
    ferplus_contempt: bool = Field(True, description="FERPlus: eight classes; False: seven")
    rafdb_faces: Literal["aligned", "original"] = Field(
        "aligned", description="RAF-DB: the 100 px faces, or photographs with boxes and landmarks")
    expw_align: Literal["detector", "landmarks", "boxes"] = Field(
        "detector", description="ExpW: landmarks by a detector, of landmarks.csv, or box alone")
    expw_confidence: float = Field(
        0.0, ge=0, description="ExpW: least confidence of a face's box, as label.lst gives it")
    drawn_size: int = Field(112, ge=32, le=256, description="synthetic: side of a drawn face, px")
    drawn_train: int = Field(3000, ge=8, description="synthetic: number of training faces")
    drawn_validation: int = Field(500, ge=8, description="synthetic: number of validation faces")
    drawn_test: int = Field(1000, ge=8, description="synthetic: number of test faces")
    drawn_contempt: bool = Field(False, description="synthetic: draw contempt as an eighth class")

    input_size: int = Field(
        112, ge=32, le=512, multiple_of=16, description="network input, px; inferred from 4.1",
        **group("resolution"))
    lr_size: int = Field(12, ge=4, le=112, description="low resolution, px (4.1: 12 or 14)")
    kernel: Literal["bicubic", "bilinear", "lanczos", "box", "nearest"] = Field(
        "bicubic", description="downsampling and restoring kernel (4.1: bicubic)")
    blur_sigma: float = Field(
        1.0, ge=0, le=10, description="Gaussian blur after restoring, px; 0 is off (3.1)")
