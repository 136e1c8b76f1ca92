# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""V4L2 cameras of this machine, as Linux lists them; and why one cannot be opened, before anybody tries."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from molmoact2_contract.users import users_of

from .source import CameraError

USB_1 = 12.0    # Mbit/s, as in sysfs


@dataclass(frozen=True)
class VideoDevice:
    """path: its device file; name: the one its driver gives; usb: speed of its USB link [Mbit/s], 0: none; socket: the
    USB socket, as the kernel names it (3-1.2), and serial: the serial number, both empty where there is none."""

    path: Path
    name: str
    usb: float
    socket: str = ""
    serial: str = ""

    @property
    def identity(self) -> str:
        """What tells it from another camera, in words. The socket too: of cheap cameras all have one serial number."""
        serial = f", serial number {self.serial}" if self.serial else ""
        return self.name + serial + (f", in USB socket {self.socket}" if self.socket else "")


class VideoDevices:
    """root: where /sys, /dev and /proc are (another in tests)."""

    def __init__(self, root: Path = Path("/")):
        self._root = root

    def all(self) -> list[VideoDevice]:
        """Every capture device, without the metadata nodes that UVC cameras have beside it."""
        found = []
        for folder in sorted((self._root / "sys/class/video4linux").glob("video*")):
            if _text(folder / "index") in ("", "0"):
                name = _text(folder / "name")
                usb = (folder / "device").resolve().parent
                speed, serial = _text(usb / "speed"), _text(usb / "serial")
                socket = usb.name if speed else ""
                found.append(VideoDevice(self._root / "dev" / folder.name, name, float(speed or 0), socket, serial))
        return found

    def find(self, wanted: str) -> VideoDevice:
        """The device of a path (also a link below /dev/v4l) or of a name, whole or a part that no other one has.

        Errors: CameraError listing those that are there.
        """
        devices = self.all()
        if wanted.startswith("/"):
            path = Path(wanted)
            if not path.exists():
                raise CameraError(f"camera {wanted} is not there; {self._list(devices)}")
            real = path.resolve()
            return next((d for d in devices if d.path.resolve() == real), VideoDevice(real, path.name, 0.0))
        matching = [d for d in devices if d.name == wanted] or [d for d in devices if wanted.lower() in d.name.lower()]
        if not matching:
            raise CameraError(f"no camera is named {wanted!r}; {self._list(devices)}")
        if len(matching) > 1:
            paths = ", ".join(str(d.path) for d in matching)
            raise CameraError(
                f"{len(matching)} cameras are named {wanted!r} ({paths}); give the path of one, best below "
                "/dev/v4l/by-path, which tells the sockets apart"
            )
        return matching[0]

    def check(self, device: VideoDevice) -> None:
        """Errors: CameraError where the device may not be opened, or is in use, naming by whom."""
        if not os.access(device.path, os.R_OK | os.W_OK, effective_ids=True):
            raise CameraError(
                f"camera {device.path} ({device.name}) may not be opened by this user; add the user to the group video "
                "(sudo usermod -aG video $USER), log in anew, and see docker/udev"
            )
        if 0 < device.usb <= USB_1:
            raise CameraError(
                f"camera {device.path} ({device.name}) runs at {device.usb:g} Mbit/s, the speed of USB 1; "
                "use another cable or socket"
            )
        users = users_of(device.path, self._root)
        if users:
            raise CameraError(
                f"camera {device.path} ({device.name}) is in use by {', '.join(users)}; end it, or give this camera "
                "to one of them only"
            )

    def _list(self, devices: list[VideoDevice]) -> str:
        if not devices:
            return "there is no camera on this machine: plug it in, and see what `dmesg` says"
        return "there are: " + ", ".join(f"{d.path} ({d.name})" for d in devices)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
