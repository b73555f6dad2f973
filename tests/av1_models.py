"""A tiny configuration of CNN-AV1's networks for the tests, blocks, and networks made quickly."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.cnn_av1.model import BackboneConfig
from jaxvision.cnn_av1.stage_model import ModelConfig
from jaxvision.nn.resnet import ResNetConfig
from jaxvision.step import INFERENCE

TINY = ResNetConfig(width=8, blocks=(1, 1), stem="half")
BACKBONE = BackboneConfig(resnet=TINY, dropout=(0.1, 0.2), features=16)
CFG = ModelConfig(backbone=BACKBONE, hidden=8)
LEVELS = dataclasses.replace(CFG, backbone=dataclasses.replace(BACKBONE, levels=4))
BLOCKS = np.random.RandomState(0).randint(0, 1024, (4, 16, 16)).astype(np.uint16)
QPS = np.array([20, 80, 128, 255], np.uint8)


def inference(model):
    return nnx.view(model, **INFERENCE)


def drawn(make):
    """`make()` with random parameters, none of them zero, and without running its first ones."""
    model, random = nnx.eval_shape(make), np.random.RandomState(0)
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        value = 0.1 * random.standard_normal(variable.shape)
        ones = path[-1] in ("scale", "var", "temperature")
        variable.set_value(jnp.asarray(value + ones, jnp.float32))
    return model
