# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras as ROS 2 topics: sources of frames, what watches them, and the node."""

import os

# How long a grab() of a UVC camera may hang, in whole seconds; OpenCV would take 10. It looks once in a process (4.x:
# when the first such camera is opened), so it is set here, before any module of this package imports cv2.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")
