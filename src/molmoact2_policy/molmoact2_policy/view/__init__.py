# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a person sees of traces and chunks: pictures, depth, planned paths, frames. Plain objects, and a node."""
