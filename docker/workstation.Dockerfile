# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
#
# The GPU workstation: model, policy, visualizer, recorder, training; and the simulation. Needs the NVIDIA container
# toolkit on the host. From the repository's root:
#   docker build -f docker/workstation.Dockerfile -t molmoact2-workstation .
#
# Pin the base by its digest once you have pulled it: --build-arg BASE=ros:jazzy-ros-base-noble@sha256:...
ARG BASE=ros:jazzy-ros-base-noble
FROM ${BASE}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8

# The versions of Python packages are pinned in scripts/. Those of apt are what the base's distribution has now: the ROS
# repository keeps only the newest of each, so a version written here would be gone in weeks.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
      python3-venv python3-dev python3-numpy python3-opencv g++ cmake make \
      libegl1 libegl-mesa0 libgl1-mesa-dri libusb-1.0-0 v4l-utils \
    && rm -rf /var/lib/apt/lists/*

ARG UID=1000
ARG GID=1000
# Ubuntu's own user 1000 gives way to one of this name.
RUN (userdel -r ubuntu 2>/dev/null || true) \
    && (getent group "${GID}" >/dev/null || groupadd -g "${GID}" molmoact2) \
    && useradd -l -m -u "${UID}" -g "${GID}" -G video,dialout -s /bin/bash molmoact2 \
    && install -d -o "${UID}" -g "${GID}" /opt/molmoact2 /opt/molmoact2/out /data

COPY --chown=${UID}:${GID} src /opt/molmoact2/src
WORKDIR /opt/molmoact2
# hadolint ignore=DL3008
RUN apt-get update && rosdep update --rosdistro jazzy --include-eol-distros \
    && rosdep install -y --rosdistro jazzy --from-paths src --ignore-src --dependency-types exec,build \
    && rm -rf /var/lib/apt/lists/* /root/.ros

COPY --chown=${UID}:${GID} . /opt/molmoact2
USER ${UID}:${GID}
RUN TORCH=cuda scripts/build

ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics,video
ENV ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
ENTRYPOINT ["/opt/molmoact2/docker/entrypoint.sh"]
CMD ["molmoact2", "--help"]
