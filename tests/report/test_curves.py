from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxtl.errors import InputError
from jaxtl.report.curves import plot_comparison, plot_history
from jaxtl.report.drawing import COLOURS


def history(epochs: int = 4, start: float = 0.5, gain: float = 0.1) -> list[dict]:
    return [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "train_loss": 1.0 / epoch,
            "train_accuracy": min(1.0, start + gain * epoch),
            "val_loss": 1.2 / epoch,
            "val_accuracy": start + gain * epoch / 2,
            "learning_rate": {"slow": 1e-4 / epoch, "fast": 1e-3 / epoch},
        }
        for epoch in range(1, epochs + 1)
    ]


def lines(axes) -> dict[str, tuple[list[float], list[float]]]:
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def test_history_shows_what_was_recorded(tmp_path, drawn):
    path = plot_history(history(), tmp_path / "new" / "history.png")
    assert path == tmp_path / "new" / "history.png"
    loss, accuracy, rate = drawn[0].axes
    assert lines(loss)["training"] == ([1, 2, 3, 4], pytest.approx([1, 1 / 2, 1 / 3, 1 / 4]))
    assert lines(loss)["validation"][1] == pytest.approx([1.2, 0.6, 0.4, 0.3])
    assert lines(accuracy)["validation"][1] == pytest.approx([55, 60, 65, 70])
    assert accuracy.get_title("right") == "best 70.0 %, epoch 4"
    assert rate.get_yscale() == "log"
    assert lines(rate)["slow"][1] == pytest.approx([1e-4, 5e-5, 1e-4 / 3, 2.5e-5])


def test_the_best_of_equal_epochs_is_the_latest_and_losses_are_of_any_kind(tmp_path, drawn):
    """As the model in best/ is chosen."""
    records = history()
    records[1]["val_accuracy"] = records[3]["val_accuracy"]
    plot_history(records, tmp_path / "history.png")
    assert drawn[0].axes[1].get_title("right") == "best 70.0 %, epoch 4"
    assert drawn[0].axes[0].get_ylabel() == "loss"


def test_the_best_epoch_of_several_labels_is_that_of_the_highest_average_precision(tmp_path, drawn):
    records = [record | {"val_mean_average_precision": 0.9 / record["epoch"]} for record in history()]
    plot_history(records, tmp_path / "history.png")
    accuracy = drawn[0].axes[1]
    assert accuracy.get_title("right") == "best 90.0 %, epoch 1"
    assert lines(accuracy)["validation, mean average precision"][1] == pytest.approx([90, 45, 30, 22.5])
    assert accuracy.get_title("left") == "Mean average precision"
    assert list(lines(accuracy))[:2] == ["training, accuracy", "validation, accuracy"]


def test_strategies_are_compared_by_the_average_precision_of_several_labels(tmp_path, drawn):
    runs = {
        name: [[record | {"val_mean_average_precision": last * record["epoch"] / 4} for record in history()]]
        for name, last in (("a", 0.4), ("b", 0.6))
    }
    plot_comparison(runs, tmp_path / "comparison.png")
    (axes,) = drawn[0].axes
    assert axes.get_title("left") == "Validation mean average precision"
    assert lines(axes)["a"][1] == pytest.approx([10, 20, 30, 40])
    assert [text.get_text() for text in axes.texts] == ["a  40.0 %", "b  60.0 %"]


def test_a_png_with_something_on_it(tmp_path):
    with Image.open(plot_history(history(), tmp_path / "history.png")) as image:
        assert image.format == "PNG"
        assert image.width > 2 * image.height
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for colour in COLOURS[:4]:
        assert (pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=1).sum() > 100


@pytest.mark.filterwarnings("error")
def test_gaps_are_left_out(tmp_path, drawn):
    records = history()
    records[1]["val_loss"] = math.nan
    records[2]["val_accuracy"] = None
    for record in records:
        del record["learning_rate"], record["train_loss"]
    plot_history(records, tmp_path / "history.png")
    loss, accuracy, rate = drawn[0].axes
    assert list(lines(loss)) == ["validation"]
    assert math.isnan(lines(loss)["validation"][1][1])
    assert math.isnan(lines(accuracy)["validation"][1][2])
    assert [text.get_text() for text in rate.texts] == ["not recorded"]


@pytest.mark.parametrize(
    "records", [history(1), history(200), [{"epoch": 1}], [{"epoch": 1, "learning_rate": {"a": 0.0}}]]
)
def test_histories_of_any_length(tmp_path, records):
    assert plot_history(records, tmp_path / "history.png").stat().st_size > 1000


def test_a_group_that_joins_later(tmp_path, drawn):
    records = history(3)
    del records[0]["learning_rate"]["slow"]
    plot_history(records, tmp_path / "history.png")
    rate = lines(drawn[0].axes[2])
    assert math.isnan(rate["slow"][1][0])
    assert rate["slow"][1][1] == pytest.approx(5e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [8, 18, 40])
def test_many_groups_are_told_apart_by_a_scale_of_colours(tmp_path, drawn, count):
    rates = {f"slow.d{depth}": 1e-4 * 0.75**depth for depth in sorted(range(1, count), key=str)} | {"fast.d0": 1e-3}
    plot_history([{**record, "learning_rate": rates} for record in history()], tmp_path / "history.png")
    loss, _, rate, scale = drawn[0].axes
    assert list(lines(rate)) == ["fast.d0", *(f"slow.d{depth}" for depth in range(1, count))]
    assert len({line.get_color() for line in rate.lines}) == count
    assert rate.get_legend() is None
    names = [label.get_text() for label in scale.get_yticklabels()]
    assert names == ["fast.d0", f"slow.d{(count - 1) // 2}", f"slow.d{count - 1}"]
    assert rate.get_position().width > 0.8 * loss.get_position().width
    assert scale.get_tightbbox().x1 <= drawn[0].get_window_extent().x1


@pytest.mark.filterwarnings("error")
def test_names_with_an_underscore_and_losses_of_0_are_drawn(tmp_path, drawn):
    records = [{"epoch": epoch, "train_loss": 0.0, "learning_rate": {"_body": 1e-3}} for epoch in (1, 2)]
    plot_history(records, tmp_path / "history.png")
    loss, _, rate = drawn[0].axes
    assert [text.get_text() for text in rate.get_legend().get_texts()] == ["_body"]
    assert loss.get_ylim() == (0, 1)


def test_comparison_draws_mean_and_range(tmp_path, drawn):
    runs = {"frozen": [history(start=0.4), history(start=0.5), history(start=0.6)], "all": [history(2, start=0.7)]}
    runs["frozen"][0][0]["val_accuracy"] = math.nan
    plot_comparison(runs, tmp_path / "comparison.png")
    (axes,) = drawn[0].axes
    assert lines(axes)["frozen"] == ([1, 2, 3, 4], pytest.approx([60, 60, 65, 70]))
    assert lines(axes)["all"] == ([1, 2], pytest.approx([75, 80]))
    band = axes.collections[0].get_paths()[0].vertices
    assert {round(float(y), 6) for x, y in band if x == 4} == {60, 80}
    assert [text.get_text() for text in axes.texts] == ["frozen  70.0 %", "all  80.0 %"]
    assert axes.get_title("right") == "mean and range of 3 seeds"


def test_strategies_with_one_epoch_have_a_range_too(tmp_path, drawn):
    runs = {name: [history(1, start=start) for start in (0.4, 0.5)] for name in ("probe", "full")}
    plot_comparison({**runs, "longer": [history(3)]}, tmp_path / "comparison.png")
    (axes,) = drawn[0].axes
    bars = [bar.get_segments()[0] for bar in axes.collections[:2]]
    assert [list(bar[:, 1]) for bar in bars] == [pytest.approx([45, 55])] * 2
    assert bars[0][0, 0] < 1 < bars[1][0, 0]
    assert axes.get_xlim()[0] < bars[0][0, 0]


def test_names_of_equal_curves_do_not_overlap(tmp_path, drawn):
    plot_comparison({name: [history()] for name in "abc"}, tmp_path / "comparison.png")
    (axes,) = drawn[0].axes
    heights = sorted(text.xy[1] for text in axes.texts)
    low, high = axes.get_ylim()
    assert np.diff(heights).min() > 0.05 * (high - low)


def test_runs_that_stopped_early_count_with_their_last_accuracy(tmp_path, drawn):
    def run(*accuracies: float) -> list[dict]:
        return [{"epoch": epoch, "val_accuracy": value} for epoch, value in enumerate(accuracies, 1)]

    runs = {"early": [run(0.5, 0.6), run(0.5, 0.7, 0.8, 0.95)], "other": [run(0.6, 0.7, 0.8, 0.8)] * 2}
    plot_comparison(runs, tmp_path / "comparison.png")
    (axes,) = drawn[0].axes
    assert lines(axes)["early"] == ([1, 2, 3, 4], pytest.approx([50, 65, 70, 77.5]))
    assert [text.get_text() for text in axes.texts] == ["early  77.5 %", "other  80.0 %"]


def test_names_stay_in_the_image(tmp_path, drawn):
    plot_comparison({name: [history()] for name in "abcdefg"}, tmp_path / "comparison.png")
    (axes,) = drawn[0].axes
    assert max(text.xy[1] for text in axes.texts) <= axes.get_ylim()[1]


@pytest.mark.parametrize("count", [2, 12, 40])
def test_many_or_long_names_stand_below_the_axes(tmp_path, drawn, count):
    names = [f"optimizer.fast.lr={number},label_smoothing=0.1,mixup=$x_{{2$" for number in range(count)]
    plot_comparison(
        {name: [history(start=0.3 + 0.01 * number)] for number, name in enumerate(names)}, tmp_path / "c.png"
    )
    figure = drawn[0]
    (axes,) = figure.axes
    (legend,) = figure.legends
    listed = [text.get_text() for text in legend.get_texts()]
    assert listed[0] == f"1  {names[-1]}  {50 + count - 1:.1f} %"
    assert len(listed) == count
    numbers = [text.get_text() for text in axes.texts]
    assert numbers == ([str(number) for number in range(1, count + 1)] if count <= 30 else [])
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == min(count, 4 * len(COLOURS))
    inside = figure.get_window_extent()
    for shown in (legend, *axes.texts):
        box = shown.get_window_extent()
        assert inside.x0 <= box.x0
        assert inside.y0 <= box.y0
        assert box.x1 <= inside.x1
        assert box.y1 <= inside.y1
    assert axes.get_position().width > 0.75
    assert axes.get_position().height * figure.get_figheight() > 3.5


def test_nothing_to_draw(tmp_path):
    with pytest.raises(InputError, match="no history to draw"):
        plot_history([], tmp_path / "history.png")
    with pytest.raises(InputError, match="no history to draw"):
        plot_comparison({}, tmp_path / "comparison.png")
    with pytest.raises(InputError, match="no history to draw for 'b', 'c'"):
        plot_comparison({"a": [history()], "b": [[]], "c": []}, tmp_path / "comparison.png")
    assert not list(tmp_path.iterdir())
    plot_comparison({f"run {number}": [[{"epoch": 1}]] for number in range(9)}, tmp_path / "comparison.png")


def test_drawing_leaves_pyplot_alone(tmp_path):
    program = (
        "import sys; from jaxtl.report.curves import plot_history; assert 'matplotlib' not in sys.modules;"
        f"plot_history([{{'epoch': 1, 'val_accuracy': 0.5}}], {str(tmp_path / 'h.png')!r});"
        "assert 'matplotlib.pyplot' not in sys.modules and 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
