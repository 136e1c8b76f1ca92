#!/usr/bin/env bash
# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs a command in the environment of the workspace, as process 1 that hands signals on (with init: true, or tini).
set -e
cd /opt/molmoact2
if [ -f scripts/env.sh ]; then
  . scripts/env.sh
else
  . /opt/ros/jazzy/setup.bash
  . install/local_setup.bash
  # Nodes are started by the distribution's interpreter; it finds what pip installed for the drivers here.
  PYTHONPATH="$(echo /opt/molmoact2/.venv/lib/python3*/site-packages)${PYTHONPATH:+:$PYTHONPATH}"
  export PYTHONPATH PATH="/opt/molmoact2/.venv/bin:$PATH"
fi
exec "$@"
