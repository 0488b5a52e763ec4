from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from tunesmith.learn import log


def test_a_line_is_on_the_disk_when_it_was_written(tmp_path: Path) -> None:
    metrics = log.Metrics(tmp_path, 0)
    metrics.write({"step": 1, "loss": 2.0})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 2.0}\n'


def test_what_was_said_after_the_checkpoint_goes(tmp_path: Path) -> None:
    metrics = log.Metrics(tmp_path, 0)
    for step in (1, 2, 3):
        metrics.write({"step": step, "loss": 1.0})
    metrics.close()
    log.Metrics(tmp_path, 2).close()
    assert [line["step"] for line in log.read(tmp_path)] == [1, 2]


def test_a_run_that_begins_again_without_a_checkpoint_says_nothing_twice(tmp_path: Path) -> None:
    for _ in range(2):
        metrics = log.Metrics(tmp_path, 0)
        metrics.write({"step": 0, "held_out_loss": 2.0})
        metrics.close()
    assert len(log.read(tmp_path)) == 1


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    assert [line["step"] for line in log.read(tmp_path)] == [1]


def test_the_picture_is_sound_xml_with_a_point_for_each_step(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 3.0 / step} for step in range(1, 11)] + [{"step": 10, "held_out_loss": 0.4}]
    tree = ElementTree.fromstring(log.loss_svg(lines))
    curves = [one for one in tree.iter() if one.tag.endswith("polyline")]
    assert [len(one.get("points", "").split()) for one in curves] == [10, 10, 1]
    assert sum(one.tag.endswith("circle") for one in tree.iter()) == 1
    heights = [float(point.split(",")[1]) for point in curves[0].get("points", "").split()]
    assert heights == sorted(heights), "a falling loss falls on the picture"


def test_a_run_without_steps_has_an_empty_picture() -> None:
    assert ElementTree.fromstring(log.loss_svg([])) is not None
