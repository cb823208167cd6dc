from __future__ import annotations

import argparse
import json
import pickle
import sys

import numpy as np
import pytest
from local_files import shared
from safetensors.numpy import save_file
from small_models import bits, small_model

import jaxtl
from jaxtl.errors import InputError
from jaxtl.pretrained import weight_files
from jaxtl.pretrained.names import state_dict

torch = pytest.importorskip("torch")

ARRAYS = {"fc.bias": np.arange(3, dtype=np.float32), "fc.weight": np.ones((3, 2), np.float32)}


def _tensors(prefix: str = "") -> dict:
    return {prefix + name: torch.tensor(array) for name, array in ARRAYS.items()}


def _same(found) -> bool:
    return dict(found).keys() == ARRAYS.keys() and all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "_orig_mod.module.", "module._orig_mod."])
@pytest.mark.parametrize("nesting", [(), ("state_dict",), ("model",), ("checkpoint", "net")])
def test_nesting_and_prefixes(prefix: str, nesting: tuple[str, ...], tmp_path) -> None:
    content = _tensors(prefix)
    for key in reversed(nesting):
        content = {key: content, "epoch": 3, "args": {"lr": 0.1}}
    torch.save(content, tmp_path / "a.pth")
    if "checkpoint" in nesting:
        with pytest.raises(InputError, match=r"holds no state dict.*found the keys \['args', 'checkpoint', 'epoch'\]"):
            weight_files.read(tmp_path / "a.pth")
    else:
        assert _same(weight_files.read(tmp_path / "a.pth"))


def test_a_checkpoint_may_hold_tensors_beside_its_weights(tmp_path) -> None:
    content = {"epoch": 90, "arch": "resnet50", "state_dict": _tensors("module."), "best_acc1": torch.tensor(76.1)}
    torch.save(content, tmp_path / "checkpoint.pth.tar")
    assert _same(weight_files.read(tmp_path / "checkpoint.pth.tar"))


def test_the_settings_in_a_checkpoint_of_timms_script(tmp_path) -> None:
    torch.save({"state_dict": _tensors(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "last.pth.tar")
    assert _same(weight_files.read(tmp_path / "last.pth.tar"))


@pytest.mark.parametrize("names", [("state_dict", "state_dict_ema"), ("model", "model_ema")])
def test_the_running_average_of_the_weights_is_taken_and_said(names: tuple[str, str], tmp_path, capsys) -> None:
    last = {name: tensor + 1 for name, tensor in _tensors().items()}
    average = {"n_averaged": torch.tensor(7), **_tensors("module.")}
    torch.save({names[0]: last, names[1]: average}, tmp_path / "both.pth")
    assert _same(weight_files.read(tmp_path / "both.pth"))
    assert f"weights and their running average; the average, {names[1]!r}, is taken" in capsys.readouterr().err
    torch.save({names[1]: average}, tmp_path / "average.pth")
    assert _same(weight_files.read(tmp_path / "average.pth"))
    assert not capsys.readouterr().err


@pytest.mark.parametrize("names", [("model", "model_ema", "module"), ("state_dict", "ema_state_dict")])
def test_nested_and_other_running_averages(names: tuple[str, ...], tmp_path, capsys) -> None:
    last = {name: tensor + 1 for name, tensor in _tensors().items()}
    average = {names[2]: _tensors()} if len(names) > 2 else _tensors()
    torch.save({names[0]: last, names[1]: average}, tmp_path / "both.pth")
    assert _same(weight_files.read(tmp_path / "both.pth"))
    assert f"the average, {names[1]!r}, is taken" in capsys.readouterr().err


def test_weights_that_may_be_an_average_are_told_of(tmp_path, capsys) -> None:
    torch.save({"model": _tensors(), "net_ema_2": {"module": _tensors()}, "ema_decay": 0.9}, tmp_path / "a.pth")
    assert _same(weight_files.read(tmp_path / "a.pth"))
    assert capsys.readouterr().err.count("'net_ema_2' as well, perhaps their running average; 'model' is taken") == 1


def test_numbers_that_numpy_has_not_are_named(tmp_path) -> None:
    from safetensors.torch import save_file as save_tensors

    held = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in _tensors().items()}
    save_tensors(held, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"a\.safetensors: fc\.bias holds numbers of the kind F8_E4M3"):
        weight_files.read(tmp_path / "a.safetensors")["fc.bias"]


@pytest.mark.parametrize("average", [{}, None, {"decay": 0.99, "shadow": {"fc.bias": torch.zeros(3)}}])
def test_an_average_of_another_form_is_passed_over(average, tmp_path, capsys) -> None:
    torch.save({"model_ema": average, "model": _tensors()}, tmp_path / "a.pth")
    assert _same(weight_files.read(tmp_path / "a.pth"))
    assert not capsys.readouterr().err


def test_a_prefix_that_not_all_names_share_is_a_name(tmp_path) -> None:
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "a.pt")
    assert sorted(weight_files.read(tmp_path / "a.pt")) == ["b", "module.a"]


def test_prefixes_in_safetensors(tmp_path) -> None:
    save_file({f"_orig_mod.module.{name}": array for name, array in ARRAYS.items()}, tmp_path / "a.safetensors")
    found = weight_files.read(tmp_path / "a.safetensors")
    assert _same(found)
    assert found.shapes() == {name: array.shape for name, array in ARRAYS.items()}


@pytest.mark.parametrize("suffix", weight_files.PICKLES)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_ending_and_both_formats(suffix: str, zipped: bool, tmp_path) -> None:
    torch.save(_tensors(), tmp_path / f"a{suffix}", _use_new_zipfile_serialization=zipped)
    assert _same(weight_files.read(tmp_path / f"a{suffix}"))


def test_bfloat16_tensors(tmp_path) -> None:
    torch.save({name: tensor.bfloat16() for name, tensor in _tensors().items()}, tmp_path / "a.pt")
    assert _same(weight_files.read(tmp_path / "a.pt"))


@pytest.mark.parametrize("depth", [20, 32])
def test_a_pickle_with_cuda_storages_nesting_and_prefixes(depth: int) -> None:
    model = jaxtl.load(f"cifar_resnet{depth}", weights=shared(f"weights/cifar10_resnet{depth}.th"))
    assert model.num_classes == 10
    assert model.notes == ()
    assert float(abs(model.params["fc"]["kernel"]).max()) > 0.1


class _Malicious:
    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("nested", [False, True])
def test_code_in_a_pickle_is_refused_and_not_run(nested: bool, tmp_path) -> None:
    trap = tmp_path / "executed"
    content = {**_tensors(), "extra": _Malicious(str(trap))} if nested else _Malicious(str(trap))
    torch.save(content, tmp_path / "a.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(content, protocol=2))
    for name in ("a.pth", "plain.pth"):
        with pytest.raises(InputError, match=r"cannot be read as torch weights .*never code"):
            weight_files.read(tmp_path / name)
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"no weights at all", bytes(range(256)) * 20, b"PK\x03\x04 broken zip"])
def test_garbage(content: bytes, tmp_path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as torch weights"):
        weight_files.read(tmp_path / "a.pth")
    with pytest.raises(InputError, match="no whole safetensors file"):
        weight_files.read(tmp_path / "a.safetensors")


def test_a_truncated_file(tmp_path) -> None:
    save_file(ARRAYS, tmp_path / "a.safetensors")
    torch.save(_tensors(), tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-8])
        with pytest.raises(InputError, match=r"it may have been cut off|cannot be read as torch weights"):
            weight_files.read(tmp_path / name)


def test_without_torch_the_message_names_the_extra(tmp_path, monkeypatch) -> None:
    torch.save(_tensors(), tmp_path / "a.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"torch is not installed; run: pip install 'jaxtl\[timm\]'"):
        weight_files.read(tmp_path / "a.pth")
    save_file(ARRAYS, tmp_path / "a.safetensors")
    assert _same(weight_files.read(tmp_path / "a.safetensors"))


def test_a_whole_model_and_other_contents_are_told(tmp_path) -> None:
    torch.save(torch.nn.Linear(2, 3), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"save model\.state_dict"):
        weight_files.read(tmp_path / "a.pth")
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(InputError, match="holds a list, not a state dict"):
        weight_files.read(tmp_path / "a.pth")


def test_folders_and_files_that_are_none(tmp_path) -> None:
    with pytest.raises(InputError, match=r"holds no \.safetensors files"):
        weight_files.find(tmp_path)
    save_file(ARRAYS, tmp_path / "one.safetensors")
    assert weight_files.find(tmp_path).name == "one.safetensors"
    with pytest.raises(InputError, match=r"no weight file or folder .*did you mean '.*one.safetensors'"):
        weight_files.find(tmp_path / "on.safetensors")
    save_file(ARRAYS, tmp_path / "two.safetensors")
    with pytest.raises(InputError, match=r"several \.safetensors files"):
        weight_files.find(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert weight_files.find(tmp_path).name == "pytorch_model.bin"
    save_file(ARRAYS, tmp_path / "model.safetensors")
    assert weight_files.find(tmp_path).name == "model.safetensors"
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"is no weight file; known endings: .safetensors, .pth"):
        weight_files.find(tmp_path / "notes.txt")


def test_a_model_in_several_files(tmp_path) -> None:
    parts = {name: f"model-0000{i}-of-00002.safetensors" for i, name in enumerate(ARRAYS, start=1)}
    for name, file in parts.items():
        save_file({f"model.{name}": ARRAYS[name]}, tmp_path / file)
    with pytest.raises(InputError, match="holds files of one model without their index"):
        weight_files.read(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {f"model.{k}": v for k, v in parts.items()}}))
    for path in (tmp_path, index):
        found = weight_files.read(path)
        assert _same(found)
        assert found.shapes() == {name: array.shape for name, array in ARRAYS.items()}
    second = tmp_path / "model-00002-of-00002.safetensors"
    with pytest.raises(InputError, match="is file 2 of 2 of one model; name the folder"):
        weight_files.read(second)
    second.unlink()
    with pytest.raises(
        InputError, match=r"lacks model-00002-of-00002\.safetensors, which model\.safetensors\.index\.json"
    ):
        weight_files.read(tmp_path)
    for text in ("", "[]", "{}", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(InputError, match="is no index of safetensors files"):
            weight_files.read(index)


def test_a_pickle_and_safetensors_give_the_same_model(tmp_path) -> None:
    model = small_model()
    state = state_dict(model.params, model.batch_stats)
    torch.save({"state_dict": {f"module.{k}": torch.tensor(v) for k, v in state.items()}}, tmp_path / "a.pth.tar")
    found = jaxtl.load("cifar_resnet20", weights=tmp_path / "a.pth.tar")
    assert bits(found.params) == bits(model.params)
