"""Torch networks with every number randomised, and what jaxtl makes of their weights."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx
from timm_guest import import_timm

from jaxtl.models import registry
from jaxtl.models.network import Network
from jaxtl.pretrained.names import convert, converted
from jaxtl.trees import flatten, unflatten

_LOOKED_UP = ("token", "pos_embed", "table", "latent")
"""Parameters that are added to activations, not multiplied with them, so that their number says nothing."""


def timm_network(name: str, **options):
    """timm's network by that name, evaluation mode, on torch's meta device (shapes only)."""
    timm = import_timm()
    import torch

    with torch.device("meta"):
        return timm.create_model(name, **options).eval()


def randomised(name: str, size: int | tuple[int, int] = 64, **options):
    """timm's network by that name with all its numbers randomised, evaluation mode; it takes images of ``size``."""
    network = timm_network(name, **options).to_empty(device="cpu")
    for module in network.modules():
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0  # some of timm's networks come with stochastic depth, jaxtl's do not
    return randomise(network, options.get("in_chans", 3), size)


def randomise(network, channels: int = 3, size: int | tuple[int, int] = 64):
    """Gives a torch network random parameters, and statistics around those of its activations.

    Statistics made up without looking leave activations that hardly depend on the image, and then a wrong layer hardly
    shows in the logits.
    """
    import torch

    generator = torch.Generator().manual_seed(0)

    def normal(like, std: float):
        return std * torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 and name.endswith(_LOOKED_UP):
                parameter.copy_(normal(parameter, 0.5))
            elif parameter.ndim > 1:
                parameter.copy_(normal(parameter, (2 / parameter[0].numel()) ** 0.5))
            else:
                parameter.copy_(normal(parameter, 0.2))
        for module in network.modules():
            if hasattr(module, "weight_shape"):  # CondConv2d: a row of its weight is a whole kernel
                module.weight.copy_(normal(module.weight, (2 / np.prod(module.weight_shape[1:])) ** 0.5))
            if hasattr(module, "routing_fn"):  # no image's kernels may be many times another's
                module.routing_fn.weight.mul_(0.2)
        norms = [
            module
            for module in network.modules()
            if hasattr(module, "eps") and getattr(module, "weight", None) is not None and module.weight.ndim == 1
        ]
        for norm in norms:  # the deeper, the smaller the branches: rounding errors must not grow with depth
            norm.weight.add_(0.3).mul_(min(1, 50 / len(norms)) ** 0.75)
            acts = not isinstance(getattr(norm, "act", torch.nn.Identity()), torch.nn.Identity)
            if getattr(norm, "v", None) is not None or (isinstance(norm, torch.nn.GroupNorm) and acts):
                norm.weight.add_(0.4)  # within a branch; behind small ones biases alone would be left of the image
            if hasattr(norm, "num_groups"):  # the same for the constants that group norms add
                norm.bias.mul_(0.5)
        batch_norms = [norm for norm in norms if getattr(norm, "running_mean", None) is not None]
        for norm in batch_norms:
            norm.reset_running_stats()
            norm.momentum = 1.0
        if batch_norms:
            network.train()(torch_images(images(size, channels, batch=8)))
        for norm in batch_norms:
            norm.running_var.clamp_(min=0.05 * float(norm.running_var.mean()))  # a channel near zero is not blown up
            norm.running_mean += 0.1 * norm.running_var.sqrt() * normal(norm.running_mean, 1)
            norm.running_var *= torch.exp(normal(norm.running_var, 0.1))
            norm.momentum = 0.1
    return network.eval()


def images(size: int | tuple[int, int], channels: int = 3, batch: int = 2) -> np.ndarray:
    """Random normalised images of patches and noise, NHWC; no two have the same contrast. ``size``: the side, or height
    and width."""
    generator = np.random.default_rng(size)
    height, width = (size, size) if isinstance(size, int) else size
    patches = generator.standard_normal((batch, height // 16 + 1, width // 16 + 1, channels))
    noise = generator.standard_normal((batch, height, width, channels))
    contrast = np.linspace(0.5, 1.5, batch)[:, None, None, None]
    return (contrast * (patches.repeat(16, 1).repeat(16, 2)[:, :height, :width] + 0.5 * noise)).astype(np.float32)


def torch_images(array: np.ndarray):
    """The same for torch, NCHW."""
    import torch

    return torch.from_numpy(array.transpose(0, 3, 1, 2).copy())


def check_names(reference, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises unless the leaves at these paths have the names and shapes of a torch network's, which may be abstract."""
    state = {name: np.broadcast_to(np.float32(0), tuple(leaf.shape)) for name, leaf in reference.state_dict().items()}
    for _ in converted(state, shapes):
        return  # all names and shapes are compared before the first array


def ported(name: str, reference, **options) -> Network:
    """jaxtl's network by that name with the weights of a torch network."""
    network = registry.build(name, **options)
    state = {key: value.numpy() for key, value in reference.state_dict().items()}
    return filled(network, state)


def filled(network: Network, state: dict[str, np.ndarray]) -> Network:
    """An abstract network filled from a torch state dict."""
    graph, variables = nnx.split(network)
    shapes = {path: leaf.shape for path, leaf in flatten(nnx.to_pure_dict(variables)).items()}
    return nnx.merge(graph, jax.tree.map(jax.numpy.asarray, unflatten(convert(state, shapes))))


def outputs(network: Network, x: np.ndarray) -> jax.Array:
    """What a network makes of images, as one compiled program: single operations take longer to compile."""
    graph, variables = nnx.split(network)
    return jax.jit(lambda variables, x: nnx.merge(graph, variables)(x))(nnx.to_pure_dict(variables), x)


def difference(ours, theirs) -> float:
    """The largest absolute difference in parts of the largest value."""
    theirs = theirs.detach().numpy()
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())
