# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import mujoco
import numpy as np
import pytest

from mujoco_driver import meshes
from mujoco_driver import scene as scene_module


def places(scene_, seed):
    data = mujoco.MjData(scene_.model)
    scene_module.place_cubes(scene_, data, seed)
    return np.array([data.qpos[scene_.model.joint(c).qposadr[0] :][:7] for c in scene_.cubes])


def test_the_same_seed_gives_the_same_scene_and_another_seed_another(scene):
    assert (places(scene, 5) == places(scene, 5)).all()
    assert (places(scene, 5) != places(scene, 6)).any()


def test_cubes_lie_apart_on_the_table_and_never_in_the_tray(scene):
    from mujoco_driver.scene import CUBE_GAP, CUBE_HALF, TRAY_CENTRE, TRAY_HALF

    for seed in range(200):
        cubes = places(scene, seed)
        assert np.allclose(cubes[:, 2], CUBE_HALF)
        for index, cube in enumerate(cubes):
            assert np.abs(cube[:2] - TRAY_CENTRE).max() > TRAY_HALF + CUBE_HALF * 2**0.5
            assert all(np.linalg.norm(cube[:2] - other[:2]) >= CUBE_GAP for other in cubes[:index])


def test_an_unknown_scene_lists_those_there_are():
    with pytest.raises(scene_module.SceneError, match="so101_tabletop"):
        scene_module.build("moon")


def test_thinning_keeps_the_shape_and_drops_most_of_the_faces():
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    heights = np.linspace(0, 1, 40)
    vertices = np.array([[np.cos(a), np.sin(a), h] for h in heights for a in angles])
    faces = []
    for row in range(39):
        for column in range(60):
            a, b = row * 60 + column, row * 60 + (column + 1) % 60
            faces += [[a, b, a + 60], [b, b + 60, a + 60]]
    few, triangles = meshes.thin(vertices, np.array(faces), cells=12)
    assert len(triangles) < len(faces) / 4
    assert np.abs(few.max(axis=0) - vertices.max(axis=0)).max() < 2 / 12
    assert triangles.max() < len(few)


def test_thinned_meshes_are_cached_and_a_damaged_cache_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = scene_module._so101_model()
    first = meshes.thinned_meshes(model, 12)
    (file,) = meshes.cache_folder().glob("*.npz")
    before = file.stat().st_mtime_ns
    again = meshes.thinned_meshes(model, 12)
    assert file.stat().st_mtime_ns == before
    assert all((first[name][0] == again[name][0]).all() for name in first)
    file.write_bytes(b"damaged")
    repaired = meshes.thinned_meshes(model, 12)
    assert all((first[name][1] == repaired[name][1]).all() for name in first)


