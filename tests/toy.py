"""Small stages that hold what is hard in the five systems, for the tests of the trainer."""

import dataclasses
import functools

import clu.metrics
import flax.struct
import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxvision.data.pipeline import batches, shuffled
from jaxvision.stage import Eval, Graft, Objective, Stage
from jaxvision.writer import Silent

WIDTH = 16


class Encoder(nnx.Module):
    def __init__(self, *, rngs):
        self.a = nnx.Linear(8, WIDTH, rngs=rngs)
        self.norm = nnx.BatchNorm(WIDTH, rngs=rngs)
        self.drop = nnx.Dropout(0.1)
        self.b = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x, rngs=None):
        return self.b(self.drop(nnx.relu(self.norm(self.a(x))), rngs=rngs))


class AutoEncoder(nnx.Module):
    def __init__(self, *, rngs):
        self.backbone = Encoder(rngs=rngs)
        self.decoder = nnx.Linear(WIDTH, 8, rngs=rngs)

    def __call__(self, x, rngs=None):
        return self.decoder(self.backbone(x, rngs))


class Classifier(nnx.Module):
    def __init__(self, classes=2, *, rngs):
        self.encoder = Encoder(rngs=rngs)
        self.head = nnx.Linear(WIDTH, classes, rngs=rngs)

    def __call__(self, x, rngs=None):
        return self.head(self.encoder(x, rngs))


class Gan(nnx.Module):
    def __init__(self, *, rngs):
        self.gen = AutoEncoder(rngs=rngs)
        self.disc = nnx.Linear(8, 1, rngs=rngs)


class Ensemble(nnx.Module):
    def __init__(self, *, rngs):
        self.members = nnx.List([Classifier(rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        return sum(nnx.softmax(member(x)) for member in self.members)


class Examples(grain.MapDataset):
    """`n` random vectors; the label is the sign of the first number."""

    def __init__(self, n, seed):
        super().__init__()
        rng = np.random.default_rng(seed)
        self._x = rng.normal(size=(n, 8)).astype(np.float32)

    def __len__(self):
        return len(self._x)

    def __getitem__(self, index):
        x = self._x[index % len(self._x)]
        return {"x": x, "y": np.int32(x[0] > 0)}


def data(split, *, batch=16, n=50):
    shares = dict(process_index=jax.process_index(), process_count=jax.process_count())
    if split == "train":
        examples = Examples(n, seed=0)
        mixed = shuffled(n, seed=0).map(lambda i: examples[i])
        return batches(mixed, batch=batch, repeat=True, **shares)
    return batches(Examples(n, seed=1), batch=batch, repeat=False, **shares)


def reconstruct(model, batch, rngs):
    return jnp.mean((model(batch["x"], rngs) - batch["x"]) ** 2), {}


def classify(model, batch, rngs):
    logits = model(batch["x"], rngs)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()
    return loss, {"accuracy": jnp.mean(logits.argmax(-1) == batch["y"])}


def generate(model, batch, rngs):
    x = model.gen(batch["x"], rngs)
    return jnp.mean((x - batch["x"]) ** 2) - 0.1 * jnp.mean(model.disc(x)), {}


def discriminate(model, batch, rngs):
    fake = model.disc(model.gen(batch["x"], rngs))
    real = model.disc(batch["x"])
    return jnp.mean(nnx.relu(1 - real)) + jnp.mean(nnx.relu(1 + fake)), {"real": jnp.mean(real)}


@flax.struct.dataclass
class Scores(clu.metrics.Collection):
    accuracy: clu.metrics.Accuracy


def predict(model, batch, rngs):
    return {"logits": model(batch["x"]), "labels": batch["y"]}


class Count:
    """A host metric: what it has been given, of real rows."""

    def __init__(self, directory):
        self._rows, self._right, self._sum = 0, 0, 0.0

    def add(self, batch, predictions):
        assert all(isinstance(x, np.ndarray) for x in (*batch.values(), *predictions.values()))
        mask = batch["mask"]
        self._rows += int(mask.sum())
        self._right += int((predictions["logits"].argmax(-1) == batch["y"])[mask].sum())
        self._sum += float(batch["x"][mask].sum(dtype=np.float64))

    def result(self):
        return {"rows": self._rows, "right": self._right, "sum": self._sum, "none": float("nan")}


ADAM = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
VAL = Eval(split="val", predict=predict, metrics=Scores, every=4)

SSL = Stage(
    name="ssl",
    model=lambda rngs: AutoEncoder(rngs=rngs),
    data=data,
    objectives={"recon": Objective(loss=reconstruct, optimizer=ADAM)},
    steps=8,
    save_every=4,
)
FINETUNE = Stage(
    name="finetune",
    model=lambda rngs: Classifier(rngs=rngs),
    data=data,
    objectives={"xent": Objective(loss=classify, optimizer=ADAM, params="^head/")},
    steps=8,
    save_every=4,
    init_from=(Graft(source="ssl", rename=(("^backbone/", "encoder/"),)),),
    evals={"val": VAL},
    best="val/accuracy",
    ema=0.9,
)
GAN = Stage(
    name="gan",
    model=lambda rngs: Gan(rngs=rngs),
    data=data,
    objectives={
        "g": Objective(loss=generate, optimizer=ADAM, params="^gen/"),
        "d": Objective(loss=discriminate, optimizer=optax.adam(1e-3), params="^disc/"),
    },
    steps=4,
    init_from=(Graft(source="ssl", rename=(("^", "gen/"),)),),
)


def member(index):
    return Stage(
        name=f"member{index}",
        model=lambda rngs: Classifier(rngs=rngs),
        data=data,
        objectives={"xent": Objective(loss=classify, optimizer=ADAM)},
        steps=4,
        seed=index,
    )


PIPELINE = Stage(
    name="pipeline",
    model=lambda rngs: Ensemble(rngs=rngs),
    data=data,
    objectives={},
    steps=0,
    init_from=tuple(Graft(source=f"member{i}", rename=(("^", f"members/{i}/"),)) for i in range(2)),
    evals={"val": VAL},
)


def with_sgd(stage, **changes):
    """`stage` with one objective by plain SGD: for comparisons that Adam would blow up."""
    ((name, objective),) = stage.objectives.items()
    plain = dataclasses.replace(objective, optimizer=optax.sgd(0.05))
    return dataclasses.replace(stage, objectives={name: plain}, **changes)


PARALLEL = with_sgd(
    member(0),
    name="parallel",
    steps=40,
    save_every=20,
    evals={"val": dataclasses.replace(VAL, every=40, host=lambda directory: [Count(directory)])},
)


def with_batch(stage, batch):
    return dataclasses.replace(stage, data=functools.partial(data, batch=batch))


class Recorder(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.said, self.rows, self.pictures = [], {}, []

    def say(self, text):
        self.said.append(text)

    def scalars(self, step, metrics):
        self.rows.setdefault(step, {}).update(metrics)

    def images(self, step, images):
        self.pictures += [(step, name, image.shape) for name, image in images.items()]
