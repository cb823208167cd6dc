from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import jaxtl
from jaxtl.cli import main
from jaxtl.data.preprocess import Preprocess
from jaxtl.errors import InputError

PREPROCESS = Preprocess(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text("model: {name: resnet18}\ndata: {source: digits}\nepochs: 2\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def part(monkeypatch):
    """Puts another function in the place of one that a command calls."""

    def replace(name: str, function) -> None:
        module, _, attribute = name.rpartition(".")
        if module == "jaxtl":
            monkeypatch.setitem(vars(jaxtl), attribute, function)
        else:
            stand_in = ModuleType(module)
            setattr(stand_in, attribute, function)
            monkeypatch.setitem(sys.modules, module, stand_in)

    return replace


def raises(error: BaseException):
    def function(*_, **__):
        raise error

    return function


def test_help_names_every_command_and_loads_nothing_heavy():
    program = (
        "import sys; from jaxtl.cli import main; code = main(['--help']);"
        "heavy = {'jax', 'flax', 'numpy', 'torch', 'timm', 'matplotlib', 'PIL', 'yaml'} & set(sys.modules);"
        "sys.exit(code or (f'loaded {heavy}' if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    studies = ("lr-find", "plan", "compare", "sweep", "transferability")
    for command in ("quickstart", "list", "explain", "train", "eval", "predict", "export", "push", *studies):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", ["quickstart", "list", "explain", "train", "eval", "predict"])
def test_help_of_a_command(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"Usage: jaxtl {command}" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxtl {jaxtl.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "'train'"),
        (["train"], "Missing argument"),
        (["train", "x.yaml", "--resum"], "No such option: --resum"),
        (["eval", "resnet18", "digits", "--size", "x"], "'--size'"),
        (["eval", "resnet18", "digits", "--batch-size", "0"], "'--batch-size'"),
        (["predict", "resnet18"], "Missing argument"),
        (["quickstart", "--seeds", "0"], "'--seeds'"),
    ],
)
def test_wrong_usage(arguments, expected, capsys):
    assert main(arguments) == 2
    written = capsys.readouterr()
    assert expected in written.err
    assert written.out == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "configs/no_such.yaml"], "there is no recipe 'configs/no_such.yaml'"),
        (["explain", "configs/no_such.yaml"], "there is no recipe 'configs/no_such.yaml'"),
        (["list", "rsnet18"], "no model is called 'rsnet18'; did you mean 'resnet18'"),
        (["eval", "resnet81", "digits"], "resnet18"),
        (["eval", "resnet18", "digits", "--weights", "no_such.safetensors"], "no_such.safetensors"),
        (["predict", "resnet81", __file__], "resnet18"),
        (["predict", "resnet18", "a.jpg"], "no such image: a.jpg"),
    ],
)
def test_bad_input_is_one_message(arguments, expected, capsys):
    assert main(arguments) == 2
    written = capsys.readouterr()
    assert written.err.startswith("error: ")
    assert expected in written.err
    assert len(written.err.splitlines()) == 1
    assert written.out == ""


def test_a_bad_recipe_is_reported_whole(config, capsys):
    assert main(["train", config, "epoch=3", "optimizer.fast.lr=-1"]) == 2
    written = capsys.readouterr().err
    assert "2 problems" in written
    assert "did you mean 'epochs'?" in written
    assert "optimizer.fast.lr must be greater than 0" in written
    assert "Traceback" not in written


def test_a_failure(part, capsys):
    part("jaxtl.list_models", raises(OSError("disk full\nand more")))
    assert main(["list"]) == 1
    assert capsys.readouterr().err == "error: OSError: disk full (the traceback: --debug)\n"


@pytest.mark.parametrize("arguments", [["--debug", "list"], ["list", "--debug"]])
@pytest.mark.parametrize(("error", "code"), [(RuntimeError("broken"), 1), (InputError("wrong"), 2)])
def test_debug_shows_the_traceback(arguments, error, code, part, capsys):
    part("jaxtl.list_models", raises(error))
    assert main(arguments) == code
    written = capsys.readouterr().err
    assert "Traceback (most recent call last)" in written
    assert written.splitlines()[-1].startswith("error: ")


def test_interrupted(part, config, capsys):
    part("jaxtl.list_models", raises(KeyboardInterrupt()))
    assert main(["list"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"
    part("jaxtl.train.run.train", raises(KeyboardInterrupt()))
    assert main(["train", config]) == 130
    assert capsys.readouterr().err.strip() == "interrupted; if the run has an output, --resume continues it"


def test_a_truncated_file_is_no_interrupt(part, capsys):
    part("jaxtl.list_models", raises(EOFError("file ends early")))
    assert main(["list"]) == 1
    assert "EOFError: file ends early" in capsys.readouterr().err


def test_list(capsys):
    assert main(["list", "resnet18", "--pretrained"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert "resnet18.a1_in1k" in names
    assert all(name.startswith("resnet18.") for name in names)


@pytest.mark.parametrize(
    "words", [["epochs=7", "optimizer.fast.lr=3e-4", "--resume"], ["--resume", "epochs=7", "seed=1"]]
)
def test_train_passes_the_recipe_on(words, part, config, capsys):
    given = {}

    def train(recipe, resume):
        given.update(recipe=recipe, resume=resume)
        return SimpleNamespace(best={"val_accuracy": 0.91304, "epoch": 4}, output="runs/x")

    part("jaxtl.train.run.train", train)
    assert main(["train", config, *words]) == 0
    assert given["recipe"].epochs == 7
    assert given["recipe"].model.name == "resnet18"
    assert given["resume"] is True
    assert capsys.readouterr().out == "best validation accuracy 91.30 % in epoch 4; written to runs/x\n"


def test_eval_tells_accuracy_and_count(part, capsys):
    given = {}

    def open_held_out(*place, **options):
        given.update(place=place, options=options)
        return "images"

    def evaluate(model, data, batch_size, split, tta):
        assert (model, data) == ("network", "images")
        given.update(batch_size=batch_size, split=split)
        return {"loss": 0.3141, "accuracy": 672 / 736, "macro_f1": 0.9, "correct": 672, "count": 736}

    part("jaxtl.load", lambda name, **options: given.update(name=name, load=options) or "network")
    part("jaxtl.train.held_out.open_held_out", open_held_out)
    part("jaxtl.evaluate", evaluate)
    assert main(["eval", "cifar_resnet20", "digits", "--weights", "a.th", "--size", "48", "--batch-size", "8"]) == 0
    assert given == {
        "name": "cifar_resnet20",
        "load": {"weights": "a.th", "img_size": 48},
        "place": ("network", "a.th", "digits"),
        "options": {"val_fraction": None, "split_file": None, "seed": None},
        "batch_size": 8,
        "split": "val",
    }
    assert capsys.readouterr().out == "accuracy 91.30 % (672 of 736), loss 0.3141; macro f1 0.9000\n"
    options = ["--val-fraction", "0.3", "--split-file", "split.json", "--seed", "7", "--label-column", "age"]
    assert main(["eval", "runs/a/model", "digits", *options]) == 0
    assert given["load"] == {"weights": "default"}
    assert given["place"] == ("network", "runs/a/model", "digits")
    split = {"val_fraction": 0.3, "split_file": Path("split.json"), "seed": 7}
    assert given["options"] == {**split, "label_column": ["age"]}
