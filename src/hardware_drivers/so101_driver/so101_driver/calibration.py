# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""LeRobot's calibration files, read and written as they are, and counts of servos <-> ROS units by them.

A file gives per motor {id, drive_mode, homing_offset, range_min, range_max}; all but drive_mode also stand in the
servo's own memory. A joint's zero is the middle of its range, as in LeRobot's degrees; the gripper is 0 at one end of
its range and 1 at the other. A count is 1/4096 of a turn. (LeRobot reckons with 1/4095, which at 110 degrees is 0.03
degrees off: less than a count.)
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from molmoact2_contract.resources import share_folders

from .protocol import MOST_ID
from .registers import COUNTS_PER_TURN, MOST_COUNT

MOTORS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")    # ids 1 .. 6
GRIPPER, FULL_TURN = "gripper", "wrist_roll"
MOST_OFFSET = 2047
LEAST_RANGE = 200    # [counts]; a joint that was swept over less was not swept
RADIANS_PER_COUNT = 2 * math.pi / COUNTS_PER_TURN


class CalibrationError(ValueError):
    """A calibration file cannot be used; the text names file, motor, what was expected, and the mend."""


@dataclass(frozen=True)
class MotorCalibration:
    """One motor, as LeRobot writes it. Counts; present position = actual - homing_offset."""

    id: int
    drive_mode: int
    homing_offset: int
    range_min: int
    range_max: int

    @property
    def middle(self) -> float:
        return (self.range_min + self.range_max) / 2


Calibration = dict[str, MotorCalibration]    # by motor, in MOTORS' order


# --- files ------------------------------------------------------------------------------------------------------------
def folders() -> list[Path]:
    """Where calibrations are looked for by name: the user's, the suite's config/calibration, then LeRobot's."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    hugging = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    lerobot = Path(os.environ.get("HF_LEROBOT_HOME") or hugging / "lerobot")
    theirs = Path(os.environ.get("HF_LEROBOT_CALIBRATION") or lerobot / "calibration")
    ours = [config / "molmoact2" / "calibration", *(folder / "config/calibration" for folder in share_folders())]
    return [*ours, *sorted(theirs.glob("robots/*")), *sorted(theirs.glob("teleop*/*"))]


def find_calibration(name_or_path: str) -> Path:
    """A file, or the name of one in folders(). Errors: CalibrationError that lists the names there are."""
    given = Path(name_or_path).expanduser()
    if given.is_file():
        return given
    for folder in folders():
        if (folder / f"{name_or_path}.json").is_file():
            return folder / f"{name_or_path}.json"
    names = sorted({path.stem for folder in folders() for path in folder.glob("*.json")})
    raise CalibrationError(
        f"calibration {name_or_path!r} is neither a file nor a name; names there: {', '.join(names) or 'none'}; "
        "make one with `molmoact2 calibrate so101`"
    )


def load_calibration(name_or_path: str) -> Calibration:
    """Reads and checks a file. Errors: CalibrationError."""
    path = find_calibration(name_or_path)
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(given, dict):
        raise CalibrationError(f"{path} must hold an object of motors, not {type(given).__name__}")
    if "motor_names" in given or "homing_offset" in given:
        raise CalibrationError(
            f"{path} has the form that LeRobot used before its change of calibration, with another zero; "
            "calibrate anew: `molmoact2 calibrate so101`"
        )
    if sorted(given) != sorted(MOTORS):
        raise CalibrationError(f"{path} names motors {', '.join(given)}; expected are {', '.join(MOTORS)}")
    calibration = {name: _motor(f"{path}: {name}", name, given[name]) for name in MOTORS}
    ids = [motor.id for motor in calibration.values()]
    if len(set(ids)) != len(ids):
        raise CalibrationError(f"{path} gives two motors one id ({', '.join(map(str, ids))})")
    return calibration


def _motor(where: str, name: str, given: object) -> MotorCalibration:
    keys = [field.name for field in fields(MotorCalibration)]
    if not isinstance(given, dict) or sorted(given) != sorted(keys):
        raise CalibrationError(f"{where}: expected exactly the keys {', '.join(keys)}, not {given!r}")
    for key in keys:
        if not isinstance(given[key], int) or isinstance(given[key], bool):
            raise CalibrationError(f"{where}: {key} must be a whole number, not {given[key]!r}")
    motor = MotorCalibration(**given)
    if not 1 <= motor.id <= MOST_ID:
        raise CalibrationError(f"{where}: id {motor.id} is outside 1 .. {MOST_ID}")
    if motor.drive_mode not in (0, 1):
        raise CalibrationError(f"{where}: drive_mode must be 0 or 1, not {motor.drive_mode}")
    if motor.drive_mode and name != GRIPPER:
        raise CalibrationError(
            f"{where}: drive_mode 1 has no meaning for a joint in degrees (LeRobot passes over it there); set it to 0"
        )
    if abs(motor.homing_offset) > MOST_OFFSET:
        raise CalibrationError(f"{where}: homing_offset {motor.homing_offset} is outside +-{MOST_OFFSET}")
    if not 0 <= motor.range_min < motor.range_max <= MOST_COUNT:
        raise CalibrationError(
            f"{where}: range {motor.range_min} .. {motor.range_max} must rise and lie within 0 .. {MOST_COUNT}"
        )
    if motor.range_max - motor.range_min < LEAST_RANGE:
        raise CalibrationError(
            f"{where}: a range of {motor.range_max - motor.range_min} counts is too small to be one; calibrate anew"
        )
    return motor


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Writes a file as LeRobot does, whole or not at all: a crash leaves the old one. Errors: OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: asdict(motor) for name, motor in calibration.items()}, indent=4)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


# --- units ------------------------------------------------------------------------------------------------------------
class Units:
    """Counts <-> ROS units of some motors, in their order: the one edge where both are spoken of.

    Arrays are float64 (J,), counts whole numbers in them.
    """

    def __init__(self, calibration: Mapping[str, MotorCalibration], motors: Sequence[str]):
        chosen = [calibration[name] for name in motors]
        self.lower_counts = np.array([float(motor.range_min) for motor in chosen])
        self.upper_counts = np.array([float(motor.range_max) for motor in chosen])
        gripper = np.array([name == GRIPPER for name in motors])
        inverted = np.array([bool(motor.drive_mode) for motor in chosen])
        span = self.upper_counts - self.lower_counts
        middle = np.array([motor.middle for motor in chosen])
        self._zero = np.where(gripper, np.where(inverted, self.upper_counts, self.lower_counts), middle)
        self._scale = np.where(gripper, np.where(inverted, -1.0, 1.0) / span, RADIANS_PER_COUNT)    # ROS per count
        ends = self.to_ros(self.lower_counts), self.to_ros(self.upper_counts)
        self.lower, self.upper = np.minimum(*ends), np.maximum(*ends)    # of the range, ROS units

    def to_ros(self, counts: np.ndarray) -> np.ndarray:
        return (np.asarray(counts, dtype=np.float64) - self._zero) * self._scale

    def to_counts(self, ros: np.ndarray) -> np.ndarray:
        """The nearest counts."""
        return np.rint(np.asarray(ros, dtype=np.float64) / self._scale + self._zero)
