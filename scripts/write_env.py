# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Writes the shell file that makes a shell use the workspace (to stdout).

Usage: write_env.py [SETUP_FILE_OF_A_ROS_DISTRIBUTION]
"""

import sys
from pathlib import Path

HEADER = """# Written by scripts/build; source it (bash, zsh, sh). Do not edit.
_molmoact2_root='{root}'
_molmoact2_venv="$_molmoact2_root/.venv"
"""

WHEELS = """_molmoact2_prepend() {
  eval "_molmoact2_old=\\${$1-}"
  case ":$_molmoact2_old:" in
    *":$2:"*) ;;
    *) eval "export $1=\\"$2${_molmoact2_old:+:$_molmoact2_old}\\"" ;;
  esac
}
_molmoact2_prepend AMENT_PREFIX_PATH "$_molmoact2_venv"
_molmoact2_prepend CMAKE_PREFIX_PATH "$_molmoact2_venv"
_molmoact2_prepend LD_LIBRARY_PATH "$_molmoact2_venv/lib"
_molmoact2_prepend PATH "$_molmoact2_venv/bin"
export ROS_VERSION=2 ROS_PYTHON_VERSION=3 ROS_DISTRO=jazzy RMW_IMPLEMENTATION=rmw_fastrtps_cpp
unset -f _molmoact2_prepend
unset _molmoact2_old
: "${FASTRTPS_DEFAULT_PROFILES_FILE:=$_molmoact2_root/docker/fastdds/shared_memory.xml}"
export FASTRTPS_DEFAULT_PROFILES_FILE
"""

DISTRIBUTION = """. '{setup}'
PATH="$_molmoact2_venv/bin:$PATH"
"""

FOOTER = """export PATH VIRTUAL_ENV="$_molmoact2_venv"
export MOLMOACT2_ROOT="$_molmoact2_root"
if [ -z "${DISPLAY-}" ] && [ -z "${MUJOCO_GL-}" ]; then
  export MUJOCO_GL=egl
fi
if [ -f "$_molmoact2_root/install/local_setup.sh" ]; then
  COLCON_CURRENT_PREFIX="$_molmoact2_root/install"
  . "$_molmoact2_root/install/local_setup.sh"
  unset COLCON_CURRENT_PREFIX
fi
unset _molmoact2_root _molmoact2_venv
"""


def environment_file(root: Path, ros_setup: str) -> str:
    """Returns the text of env.sh.

    root: the workspace. ros_setup: setup file of the ROS distribution, or empty where ROS 2 comes from wheels.
    """
    ros = DISTRIBUTION.replace("{setup}", ros_setup) if ros_setup else WHEELS
    return HEADER.format(root=root) + ros + FOOTER


if __name__ == "__main__":
    sys.stdout.write(environment_file(Path(__file__).resolve().parent.parent, sys.argv[1] if len(sys.argv) > 1 else ""))
