"""A table of predictions on disk that grows block by block and survives being killed.

``results.csv`` appears when all is done; until then its rows stand in ``results.csv.part``.
``results.csv.json``, written first, says what made them, so that a half table is never continued
by another run or in another way.
"""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from gmelib import lock
from gmelib.config import InputError
from gmelib.predict.network import Predictor
from gmelib.predict.pictures import Picture
from gmelib.predict.stream import Row, columns, values
from gmelib.record import unwritable, write_atomic

TEXT = {"encoding": "utf-8", "newline": ""}  # a line break in a file's name stays as it is
ADVICE = "give another --out, then start again: the rows that stand are kept"
_unwritable = partial(unwritable, advice=ADVICE)


def made_by(predictor: Predictor, detector: str, margin: float, batch_size: int) -> dict[str, Any]:
    """What decides the figures of a table, to the last digit, for its ``.json``."""
    return {
        "run": predictor.name,
        "weights": predictor.weights,
        "view": predictor.view,
        "detector": detector,
        "margin": margin,
        "device": predictor.device.type,
        "precision": predictor.precision,
        "batch_size": batch_size,
        "columns": columns(predictor.classes),
    }


def text_of(row: Row, classes: tuple[str, ...]) -> list[str]:
    """A row as the file holds it: probabilities to six decimals, pixels to one."""
    path, face, *rest = values(row, classes)
    return [path, str(face), *map(_text, rest[:5]), *map(_share, rest[5:])]


def _text(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.1f}".removesuffix(".0")


def _share(value: Any) -> str:
    return f"{value:.6f}" if isinstance(value, float) else value or ""


class Table:
    """The file of a table, held by one process at a time.

    made: as :func:`made_by` gives. rows and errors count those that stand in the file.
    """

    def __init__(self, out: Path, made: dict[str, Any], classes: tuple[str, ...]):
        if not out.name or out.is_dir():
            raise InputError(f"{out}: is a folder; expected a file, as results.csv")
        self.out, self.made, self.classes = out, made, classes
        self.part = out.with_name(out.name + ".part")
        self.record = out.with_name(out.name + ".json")
        self.rows = self.errors = 0

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the file; :class:`gmelib.lock.RunLocked` if a living process does."""
        path = self.out.with_name(f".{self.out.name}.lock")
        try:
            lock.take(path)
        except OSError as error:
            raise _unwritable(self.out, error) from error
        try:
            yield
        finally:
            lock.release(path)

    def resume(self, pictures: Iterator[Picture], block: int) -> int | None:
        """Takes the pictures whose rows stand already, whole blocks, off the iterator.

        Returns how many they are; None if the table is finished. Raises InputError where the file
        is of another run, or of other pictures.
        """
        if not self.part.exists() and not self.out.exists():
            text = json.dumps(self.made, indent=1)
            head = ",".join(self.made["columns"]) + "\n"
            write_atomic(self.record, text.encode(), advice=ADVICE)
            write_atomic(self.part, head.encode(), advice=ADVICE)
            return 0
        self._check_maker()
        if self.part.exists():
            started = sum(1 for _ in self._stand(self.part))
            # the last picture may lack rows, or half a line
            return self._keep(pictures, max(0, started - 1) // block * block)
        for number, (rows, picture) in enumerate(zip_longest(self._stand(self.out), pictures), 1):
            if not rows or not picture or rows[0][0] != picture.name:
                raise self._other_pictures(self.out, number, rows, picture)
            self._count(rows)
        return None

    def append(self, rows: Sequence[Row]) -> None:
        """Writes rows so that they stand even if the process is killed at once."""
        lines = [text_of(row, self.classes) for row in rows]
        try:
            with open(self.part, "a", **TEXT) as file:
                csv.writer(file, lineterminator="\n").writerows(lines)
        except OSError as error:
            raise _unwritable(self.part, error) from error
        self._count(lines)

    def finish(self) -> None:
        """Gives the file its own name: nothing is missing from it."""
        try:
            with open(self.part, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(self.part, self.out)
        except OSError as error:
            raise _unwritable(self.out, error) from error

    def _count(self, rows: Sequence[Sequence[str]]) -> None:
        self.rows += len(rows)
        self.errors += sum(1 for row in rows if row[-1])

    def _check_maker(self) -> None:
        advice = "give another --out, or delete it to start anew"
        stands = self.part if self.part.exists() else self.out
        try:
            found = json.loads(self.record.read_text())
            differing = [n for n in self.made if found.get(n) != self.made[n]]
        except (OSError, ValueError, AttributeError):
            raise InputError(
                f"{stands}: exists, and no {self.record.name} beside it says what made it; {advice}"
            ) from None
        if differing:
            name = differing[0]
            raise InputError(
                f"{stands}: was made with {name} = {found.get(name)}, expected "
                f"{self.made[name]}; {advice}"
            )

    def _stand(self, path: Path) -> Iterator[list[list[str]]]:
        """The rows of every picture that stands in a file; a cut line ends it, and one may be cut
        within a character."""
        names = self.made["columns"]
        try:
            with open(path, errors="replace", **TEXT) as file:
                reader = csv.reader(file)
                if next(reader, None) != names:
                    raise csv.Error("its first line is another")
                group: list[list[str]] = []
                for row in reader:
                    if len(row) != len(names):
                        break
                    if group and row[1] in ("0", "1"):
                        yield group
                        group = []
                    group.append(row)
        except (csv.Error, OSError) as error:
            raise InputError(
                f"{path}: cannot be read as a table of predictions ({error}); delete it to "
                "start anew"
            ) from None
        if group:
            yield group

    def _keep(self, pictures: Iterator[Picture], count: int) -> int:
        """Cuts the file after the rows of so many pictures, and passes over the pictures."""
        fresh = self.part.with_name(f".{self.part.name}.tmp")
        stands = self._stand(self.part)
        try:
            with open(fresh, "w", **TEXT) as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(self.made["columns"])
                for number in range(1, count + 1):
                    rows, picture = next(stands), next(pictures, None)
                    if not picture or rows[0][0] != picture.name:
                        raise self._other_pictures(self.part, number, rows, picture)
                    writer.writerows(rows)
                    self._count(rows)
            os.replace(fresh, self.part)
        except OSError as error:
            raise _unwritable(self.part, error) from error
        finally:
            fresh.unlink(missing_ok=True)
        return count

    def _other_pictures(
        self, path: Path, number: int, rows: list[list[str]] | None, picture: Picture | None
    ) -> InputError:
        there, here = rows[0][0] if rows else "nothing", picture.name if picture else "nothing"
        return InputError(
            f"{path}: picture {number} is {there}, expected {here}: other pictures than now; give "
            "another --out, or delete it to start anew"
        )
