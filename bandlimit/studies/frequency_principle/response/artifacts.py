"""The catalogue of response frequency: simulations, and networks followed in training.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bandlimit.config import paths
from bandlimit.config.run import Run
from bandlimit.studies.artifact import Artifact, Figure, Made, Table
from bandlimit.studies.frequency_principle.settings import Followed, Sensitivity

GROUP = "response frequency"

TABLES = "results/tables/frequency_principle"


def simulated(name: str) -> Callable[[Run], bool]:
    """Return whether a run has a simulation."""
    return lambda run: name in run.studies["frequency_principle"].simulations


def settings(name: str) -> Callable[[Run], dict[str, Any]]:
    """Return what identifies a simulation: its settings, and the seed of its draws."""

    def identity(run: Run) -> dict[str, Any]:
        return {**run.studies["frequency_principle"].simulations[name], "seed": run.seed}

    return identity


def tables_of(*names: str) -> Callable[[Run], dict[str, Any]]:
    """Return what a figure reads that is drawn from tables, by their names."""
    return lambda run: {name: f"{TABLES}/{name}.parquet" for name in names}


# Sums of sinusoids, learnt by networks of one input

SINUSOIDS: tuple[Artifact, ...] = (
    Table(
        "one_dimension",
        makes=(
            Made("one_dimension", "Xu et al., one dimension", "when a sum of sines is learnt"),
            Made(
                "one_dimension_curves",
                "Xu et al., one dimension, curves",
                "error of each frequency, step by step",
            ),
            Made(
                "one_dimension_functions",
                "Xu et al., one dimension, functions",
                "what a network computes along training",
            ),
        ),
        identity=settings("one_dimension"),
        when=simulated("one_dimension"),
        group=GROUP,
    ),
    Table(
        "sinusoids",
        makes=(
            Made("sinusoids", "Rahaman et al., Figure 1, table", "when sinusoids are learnt"),
            Made(
                "sinusoid_curves",
                "Rahaman et al., Figure 1, curves",
                "amplitude of each frequency, step by step",
            ),
            Made(
                "sinusoid_norms",
                "Rahaman et al., Figure 1, norms",
                "spectral norms of the layers, step by step",
            ),
            Made(
                "sinusoid_noise",
                "Rahaman et al., Figure 3, table",
                "what noise on the parameters leaves of each frequency",
            ),
        ),
        identity=settings("sinusoids"),
        when=simulated("sinusoids"),
        group=GROUP,
    ),
    Figure(
        "figure_one_dimension",
        where="Xu et al., one dimension",
        shows="frequencies of a sum of sines along training",
        reads=tables_of("one_dimension", "one_dimension_curves", "one_dimension_functions"),
        when=simulated("one_dimension"),
        group=GROUP,
    ),
    Figure(
        "figure_sinusoids",
        where="Rahaman et al., Figure 1",
        shows="frequencies of equal and of growing amplitudes along training",
        reads=tables_of("sinusoids", "sinusoid_curves", "sinusoid_norms"),
        when=simulated("sinusoids"),
        group=GROUP,
        in_ledger=True,
    ),
    Figure(
        "figure_parameter_noise",
        where="Rahaman et al., Figure 3",
        shows="what noise on the parameters leaves of each frequency",
        reads=tables_of("sinusoid_noise"),
        when=simulated("sinusoids"),
        group=GROUP,
    ),
)


# Sinusoids on a curve in the plane

PICTURES = f"{TABLES}/manifold_pictures.parquet"
"""What two networks say of each pixel of a square."""

MANIFOLDS: tuple[Artifact, ...] = (
    Table(
        "manifolds",
        makes=(
            Made("manifolds", "Rahaman et al., manifolds", "when sinusoids on curves are learnt"),
            Made(
                "manifold_curves",
                "Rahaman et al., manifolds, curves",
                "amplitude of each frequency, step by step",
            ),
            Made(
                "manifold_levels",
                "Rahaman et al., manifolds, turns",
                "the highest frequencies by turns of the curve",
            ),
            Made(
                "manifold_classification",
                "Rahaman et al., Figure 7, table",
                "networks that classify a curve, on it and off it",
            ),
        ),
        identity=settings("manifolds"),
        when=simulated("manifolds"),
        more={"pictures": PICTURES},
        group=GROUP,
    ),
    Figure(
        "figure_manifolds",
        where="Rahaman et al., manifolds",
        shows="frequencies along curves of few and of many turns",
        reads=tables_of("manifolds", "manifold_curves", "manifold_levels"),
        when=simulated("manifolds"),
        group=GROUP,
        in_ledger=True,
    ),
    Figure(
        "figure_classification",
        where="Rahaman et al., Figure 7",
        shows="two networks that agree on a curve and differ off it",
        reads=lambda run: {**tables_of("manifold_classification")(run), "pictures": PICTURES},
        identity=lambda run: {
            name: run.studies["frequency_principle"].simulations["manifolds"]["classification"][
                name
            ]
            for name in ("turns", "frequency")
        },
        when=simulated("manifolds"),
        group=GROUP,
    ),
)


# Theory

THEORY: tuple[Artifact, ...] = (
    Table(
        "gradients",
        where="Xu et al., Theorems 1 and 2",
        shows="how often the lower frequency leads, by radius of the weights",
        identity=settings("gradients"),
        when=simulated("gradients"),
        group=GROUP,
    ),
    Figure(
        "figure_gradients",
        where="Xu et al., Theorems 1 and 2, figure",
        shows="gradients of two frequencies where weights are small",
        reads=tables_of("gradients"),
        when=simulated("gradients"),
        group=GROUP,
        in_ledger=True,
    ),
    Table(
        "linear_principle",
        makes=(
            Made("linear_principle", "Zhang et al., Figure 2", "networks against the model"),
            Made("linear_principle_points", "Zhang et al., Figure 2, outputs", "point by point"),
            Made("linear_principle_times", "Zhang et al., rates", "when the model learns what"),
        ),
        identity=settings("linear_principle"),
        when=simulated("linear_principle"),
        group=GROUP,
    ),
    Figure(
        "figure_linear_principle",
        where="Zhang et al., Figure 2, figure",
        shows="wide networks learn what the linear frequency principle predicts",
        reads=tables_of("linear_principle", "linear_principle_points"),
        when=simulated("linear_principle"),
        group=GROUP,
        in_ledger=True,
    ),
    Table(
        "counterexample",
        makes=(
            Made("counterexample", "E, Ma and Wu, eq. 156", "eigenvalues of the kernel"),
            Made("counterexample_snapshots", "E, Ma and Wu, Figures 5 and 6", "along training"),
            Made("counterexample_times", "E, Ma and Wu, rates", "when each wave is learnt"),
        ),
        # Nothing is drawn, so no seed.
        identity=lambda run: run.studies["frequency_principle"].simulations["counterexample"],
        when=simulated("counterexample"),
        group=GROUP,
    ),
    Figure(
        "figure_counterexample",
        where="E, Ma and Wu, Figures 5 and 6, figure",
        shows="a kernel that learns a middle frequency first",
        reads=tables_of("counterexample", "counterexample_snapshots", "counterexample_times"),
        when=simulated("counterexample"),
        group=GROUP,
        in_ledger=True,
    ),
)


# Images: projections, filters, noise of labels, kernels


def followed(run: Run) -> list[tuple[Sensitivity, Followed]]:
    """Return the networks whose outputs were recorded, each with its experiment."""
    experiments = run.studies["frequency_principle"].experiments
    return [(e, network) for e in experiments for network in e.followed]


def networks(run: Run) -> list[tuple[Sensitivity, str]]:
    """Return the networks besides those of experiments of which claims may ask."""
    return [(e, network.name) for e, network in followed(run) if network.name != e.model]


def facts(run: Run, dataset: str, model: str) -> dict[str, Any]:
    """Return what claims may ask of a network, as this half of the study knows it."""
    known = {(e.dataset, network.name) for e, network in followed(run)}
    return {"has": ["followed"]} if (dataset, model) in known else {}


def _records(run: Run) -> dict[str, Any]:
    """Return outputs along trainings, and the images that they are of, in the same order."""
    own = [network for _, network in followed(run)]
    return {
        "responses": [paths.responses_file(network.name) for network in own],
        "datasets": [paths.dataset_file(network.dataset) for network in own],
    }


def _followed(name: str, makes: tuple[Made, ...]) -> Callable[[Run], dict[str, Any]]:
    """Return what identifies the tables of these networks: whose they are, and the settings."""

    def identity(run: Run) -> dict[str, Any]:
        return {
            "networks": [
                {"dataset": e.dataset, "model": network.name, "case": network.architecture}
                for e, network in followed(run)
            ],
            name: dict(getattr(run.studies["frequency_principle"], name)),
            "tables": [made.name for made in makes],
        }

    return identity


def _follows(run: Run) -> bool:
    return bool(followed(run))


def _tables(**names: str) -> Callable[[Run], dict[str, Any]]:
    """Return what a figure reads that is drawn from these tables."""
    return lambda run: {key: f"{TABLES}/{name}.parquet" for key, name in names.items()}


PROJECTION = (
    Made("projection", "Xu et al., Figure 1, steps", "when each frequency is learnt"),
    Made("projection_order", "Xu et al., Figure 1, order", "are low frequencies learnt first"),
    Made("projection_curves", "Xu et al., Figure 1, table", "error by frequency along training"),
    Made("projection_spectrum", "Xu et al., Figure 1, labels", "transform of the labels"),
)

FILTERING = (
    Made("filtering", "Xu et al., filtering, table", "smooth part and the rest, summary"),
    Made("filtering_curves", "Xu et al., filtering, curves", "smooth part and the rest by epoch"),
)

LABEL_NOISE = (
    Made("label_noise", "Rahaman et al., Figure 4, table", "noise by frequency, summary"),
    Made("label_noise_curves", "Rahaman et al., Figure 4, curves", "losses along training"),
)

KERNEL = (
    Made("kernel", "Rahaman et al., Figure 5, steps", "when each bin of eigenvectors is learnt"),
    Made("kernel_order", "Rahaman et al., Figure 5, order", "are leading eigenvectors first"),
    Made("kernel_curves", "Rahaman et al., Figure 5, table", "outputs by bin along training"),
    Made("kernel_validation", "Rahaman et al., Figure 5, losses", "validation along training"),
    Made("kernel_eigenvectors", "Rahaman et al., Figure 6, table", "spectra of eigenvectors"),
)


def _dataset(name: str) -> Callable[[Run], dict[str, Any]]:
    """Return the images that a simulation reads."""

    def reads(run: Run) -> dict[str, Any]:
        sizes = run.studies["frequency_principle"].simulations[name]
        return {"dataset": paths.dataset_file(sizes["dataset"])}

    return reads


def _of_images(name: str, makes: tuple[Made, ...]) -> Callable[[Run], dict[str, Any]]:
    """Return what identifies a simulation on images; the dataset is told by its source."""

    def identity(run: Run) -> dict[str, Any]:
        sizes = settings(name)(run)
        source = run.datasets[sizes.pop("dataset")].source
        return {
            "settings": {**sizes, "source": source},
            "tables": [made.name for made in makes],
        }

    return identity


IMAGES: tuple[Artifact, ...] = (
    Table(
        "projection",
        makes=PROJECTION,
        reads=_records,
        identity=_followed("projection", PROJECTION),
        when=_follows,
        group=GROUP,
    ),
    Table(
        "filtering",
        makes=FILTERING,
        reads=_records,
        identity=_followed("filtering", FILTERING),
        when=_follows,
        group=GROUP,
    ),
    Figure(
        "figure_projection",
        where="Xu et al., Figure 1",
        shows="frequencies along the first principal component, by epoch",
        reads=_tables(spectrum="projection_spectrum", curves="projection_curves"),
        when=_follows,
        group=GROUP,
        in_ledger=True,
    ),
    Figure(
        "figure_filtering",
        where="Xu et al., filtering",
        shows="smooth part of the outputs and the rest, by epoch",
        reads=_tables(curves="filtering_curves", summary="filtering"),
        when=_follows,
        group=GROUP,
    ),
    Table(
        "label_noise",
        makes=LABEL_NOISE,
        reads=_dataset("label_noise"),
        identity=_of_images("label_noise", LABEL_NOISE),
        when=simulated("label_noise"),
        group=GROUP,
    ),
    Figure(
        "figure_label_noise",
        where="Rahaman et al., Figure 4",
        shows="noise of low and of high frequency on labels",
        reads=_tables(curves="label_noise_curves"),
        when=simulated("label_noise"),
        group=GROUP,
        in_ledger=True,
    ),
    Table(
        "kernel",
        makes=KERNEL,
        reads=_dataset("kernel"),
        identity=_of_images("kernel", KERNEL),
        when=simulated("kernel"),
        group=GROUP,
    ),
    Figure(
        "figure_kernel",
        where="Rahaman et al., Figure 5",
        shows="outputs by eigenvector of a kernel along training",
        reads=_tables(bins="kernel", curves="kernel_curves", validation="kernel_validation"),
        when=simulated("kernel"),
        group=GROUP,
    ),
    Figure(
        "figure_eigenvectors",
        where="Rahaman et al., Figure 6",
        shows="spectra of the eigenvectors of a kernel",
        reads=_tables(spectrum="kernel_eigenvectors"),
        when=simulated("kernel"),
        group=GROUP,
    ),
)


# All works on the same axes

WORKS = {
    "one_dimension": "Xu et al., one dimension",
    "projection": "Xu et al., images",
    "sinusoids": "Rahaman et al., sinusoids",
    "manifolds": "Rahaman et al., manifolds",
    "linear_principle_times": "Zhang et al., model",
    "counterexample": "E, Ma and Wu",
}
"""Tables that tell when each frequency is learnt, and whose work they are of."""


def _works(run: Run) -> dict[str, str]:
    made = {
        one.name: f"{TABLES}/{one.name}.parquet"
        for artifact in (*SINUSOIDS, *MANIFOLDS, *THEORY, *IMAGES)
        if artifact.kind == "tables" and artifact.when(run)
        for one in artifact.made(run)
    }
    return {name: made[name] for name in WORKS if name in made}


def _any_work(run: Run) -> bool:
    return bool(_works(run))


OVERVIEW: tuple[Artifact, ...] = (
    Table(
        "learning_times",
        where="All works, table",
        shows="when each response frequency is learnt",
        reads=_works,
        identity=lambda run: {"works": {name: WORKS[name] for name in _works(run)}},
        when=_any_work,
        group=GROUP,
    ),
    Figure(
        "figure_learning_times",
        where="All works",
        shows="which response frequencies are learnt when, under which theory",
        reads=tables_of("learning_times"),
        when=_any_work,
        group=GROUP,
        in_ledger=True,
        face=True,
    ),
)


ARTIFACTS = (*OVERVIEW, *SINUSOIDS, *MANIFOLDS, *THEORY, *IMAGES)
