# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
#
# The robot computer: contract, arm controllers, drivers of arms and cameras, the launch files, and of the command molmoact2
# what these bring. No torch, no model.
# Builds for amd64; for arm64 (Jetson, Raspberry Pi 5) as far as the packages of docker/robot-requirements.txt have wheels.
#   docker build -f docker/robot.Dockerfile -t molmoact2-robot .
#
# Pin the base by its digest once you have pulled it: --build-arg BASE=ros:jazzy-ros-base-noble@sha256:...
ARG BASE=ros:jazzy-ros-base-noble
FROM ${BASE}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8

# Why apt's versions are not pinned: see workstation.Dockerfile.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
      python3-venv python3-numpy python3-opencv libusb-1.0-0 v4l-utils can-utils iproute2 psmisc \
    && rm -rf /var/lib/apt/lists/*

ARG UID=1000
ARG GID=1000
RUN (userdel -r ubuntu 2>/dev/null || true) \
    && (getent group "${GID}" >/dev/null || groupadd -g "${GID}" molmoact2) \
    && useradd -l -m -u "${UID}" -g "${GID}" -G video,dialout -s /bin/bash molmoact2 \
    && install -d -o "${UID}" -g "${GID}" /opt/molmoact2 /opt/molmoact2/out

COPY --chown=${UID}:${GID} src/molmoact2_msgs /opt/molmoact2/src/molmoact2_msgs
COPY --chown=${UID}:${GID} src/molmoact2_contract /opt/molmoact2/src/molmoact2_contract
COPY --chown=${UID}:${GID} src/molmoact2_bringup /opt/molmoact2/src/molmoact2_bringup
COPY --chown=${UID}:${GID} src/hardware_drivers /opt/molmoact2/src/hardware_drivers
WORKDIR /opt/molmoact2
# What is left out is on the workstation only: simulation, model, policy, displays.
# hadolint ignore=DL3008
RUN rm -r src/hardware_drivers/mujoco_driver \
    && apt-get update && rosdep update --rosdistro jazzy --include-eol-distros \
    && rosdep install -y --rosdistro jazzy --from-paths src --ignore-src --dependency-types exec,build \
      --skip-keys "molmoact2_data molmoact2_model molmoact2_policy mujoco_driver rviz2" \
    && rm -rf /var/lib/apt/lists/* /root/.ros

COPY --chown=${UID}:${GID} docker /opt/molmoact2/docker
COPY --chown=${UID}:${GID} config /opt/molmoact2/config
COPY --chown=${UID}:${GID} launch /opt/molmoact2/launch
COPY --chown=${UID}:${GID} checkpoints /opt/molmoact2/checkpoints
COPY --chown=${UID}:${GID} colcon.meta /opt/molmoact2/colcon.meta
USER ${UID}:${GID}
# The distribution's numpy and OpenCV stay: its compiled packages need them.
RUN python3 -m venv --system-site-packages .venv \
    && python3 -c 'import numpy; print("numpy==" + numpy.__version__)' >.venv/constraints.txt \
    && .venv/bin/pip install --no-cache-dir --constraint .venv/constraints.txt -r docker/robot-requirements.txt \
    && if [ "$(uname -m)" = x86_64 ]; then .venv/bin/pip install --no-cache-dir --no-deps panda-python==1.1.1; fi
RUN . /opt/ros/jazzy/setup.sh \
    && colcon --log-base /tmp/log build --base-paths src --metas colcon.meta

ENV ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
ENTRYPOINT ["/opt/molmoact2/docker/entrypoint.sh"]
CMD ["ros2", "launch", "molmoact2_bringup", "system.launch.py", "--show-args"]
