# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What `molmoact2 demo` leaves behind: a bag of the run, and from the bag alone a video, plots and a summary.

`live` and `tasks` need a ROS graph; `report` and what it uses read files only.
"""
