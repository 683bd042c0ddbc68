"""The study of robustness as configured: what may be said, which sets are made, who judges them."""

import copy
import math
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bandlimit.attacks import kinds as attacks_kinds
from bandlimit.attacks.adaptive.catalogue import KINDS
from bandlimit.attacks.base import create
from bandlimit.config import defenses
from bandlimit.config.defenses import DefenseEntry
from bandlimit.config.experiments import Experiment
from bandlimit.config.run import Run
from bandlimit.config.schema import read_schema
from bandlimit.defenses import catalogue, kinds
from bandlimit.defenses import kinds as defenses_kinds
from bandlimit.defenses.base import DrawName
from bandlimit.defenses.kinds import GROUPS
from bandlimit.errors import UserError
from bandlimit.models import classifier as models_classifier
from bandlimit.studies.robustness import rates, settings

HOME = Path(__file__).parents[2]
SCHEMA = {
    **read_schema(HOME / "workflow/schemas/config.schema.yaml")["$defs"],
    **read_schema(HOME / "workflow/schemas/robustness.schema.yaml")["$defs"],
}

EXPERIMENT = Experiment(
    name="net",
    dataset="images",
    model="net",
    attacks={"pgd_minimal": {}, "pgd": {}},
    epsilon=8 / 255,
    shards=2,
    document=None,
    stand_in=False,
)
CONFIG = {
    "defenses": {
        "bare": {"kind": "undefended"},
        "average": {"kind": "post_averaging", "directions": 3},
        "filter": {"kind": "low_pass", "cutoff": 7},
        "mirror": {"kind": "flip"},
        "another": {"kind": "other_model", "model": "net_b"},
    },
    "robustness": {
        "experiments": {
            "net": {
                "images": 5,
                "defenses": ["average", "filter"],
                "attacks": ["on_average", "on_all", "long"],
                "controls": ["mirror", "another"],
                "scaled": ["pgd_minimal"],
            },
        },
        "epsilons": ["2/255", 0.5],
        "draws": 10,
        "control_draws": 5,
        "larger_budget": 4,
        "stop": "exact",
        "error": 0.001,
        "factors": [1, 2],
        "attacks": {
            "on_average": {"kind": "eot_pgd", "against": ["average"], "samples": None},
            "on_all": {
                "kind": "pgd",
                "against": ["filter", "another", "bare", "mirror"],
                "epsilons": ["8/255"],
                "images": 3,
            },
            "long": {"kind": "carlini_wagner_l2", "against": ["bare"], "confidences": [1]},
            "elsewhere": {"kind": "noise", "against": ["mirror"]},
            "idle": {"kind": "fgsm", "against": ["bare"]},
        },
    },
}


def load(change=lambda config: None, size=20):
    config = copy.deepcopy(CONFIG)
    change(config)
    names = ["plain", "net", "net_b"]
    averaged = SimpleNamespace(name="net", radius=2.0, directions=15)
    run = Run(
        seed=0,
        device="cpu",
        datasets={"images": SimpleNamespace(size=size, count=size)},
        models={n: SimpleNamespace(name=n, shape=(1, 28, 28), classes=10) for n in names},
        training={},
        experiments={"net": EXPERIMENT},
        defenses={
            name: defenses.resolve(name, entry, dict.fromkeys(names))
            for name, entry in config["defenses"].items()
        },
        studies={"bandlimiting": SimpleNamespace(experiments=[averaged])},
    )
    return settings.load(config["robustness"], run)


# What is made, and who judges it ----------------------------------------------------------------


def test_experiments_that_say_nothing_are_not_examined():
    study = load()
    (examination,) = study.experiments
    assert study.examination("images", "net") is examination
    assert (examination.radius, examination.directions) == (2.0, 15)
    assert examination.shard_names() == ["1of2", "2of2"]
    assert study.epsilons == (2 / 255, 0.5)
    assert examination.epsilon == 8 / 255


def test_epsilons_are_the_attack_s_own_or_the_study_s_or_none():
    attacks = load().attacks
    assert attacks["on_average"].epsilons == (2 / 255, 0.5)
    assert attacks["on_all"].epsilons == (8 / 255,)
    assert attacks["long"].epsilons == ()
    assert attacks["on_average"].parameters == {"samples": None}


def test_sets_are_those_of_examined_defences_and_of_networks_without_one():
    """A control, such as the mirror, is not attacked, nor is anything that is not listed."""
    study = load()
    assert study.sets(study.experiments[0]) == [
        ("average", "on_average"),
        ("filter", "on_all"),
        ("another", "on_all"),
        ("bare", "on_all"),
        ("bare", "long"),
        ("average", "on_average_larger"),
        ("filter", "on_all_larger"),
        ("bare", "on_all_larger"),
    ]


def test_a_defence_is_judged_on_attacks_on_itself_and_on_what_may_carry_over():
    study = load()
    examination = study.experiments[0]
    carried = [("another", "on_all"), ("bare", "on_all"), ("bare", "long")]
    again = [("bare", "on_all_larger")]
    assert study.judged_sets(examination, "average") == [
        ("average", "on_average"),
        *carried,
        ("average", "on_average_larger"),
        *again,
    ]
    assert study.judged_sets(examination, "filter") == [
        ("filter", "on_all"),
        *carried,
        ("filter", "on_all_larger"),
        *again,
    ]
    assert study.judged_sets(examination, "bare") == carried + again


def test_the_network_without_a_defence_is_judged_first_if_it_is_attacked():
    study = load()
    # Another network is attacked for the others' sake alone.
    assert study.judges(study.experiments[0]) == ["bare", "average", "filter"]

    def unattacked(config):
        config["robustness"]["experiments"]["net"]["attacks"] = ["on_average"]

    study = load(unattacked)
    assert study.judges(study.experiments[0]) == ["average", "filter"]

    def examined(config):
        config["robustness"]["experiments"]["net"]["defenses"] = ["average", "bare"]

    study = load(examined)
    assert study.judges(study.experiments[0]) == ["bare", "average"]


def test_defences_in_use_and_the_models_they_need():
    study = load()
    used = study.used(study.experiments[0])
    assert used == ["average", "filter", "another", "bare", "mirror"]
    assert study.others(used) == ["net_b"]
    assert study.others(["another", "another", "bare"]) == ["net_b"]
    assert study.others(["average"]) == []


LARGER = [
    ({"kind": "eot_pgd", "samples": None}, {"samples": None, "steps": 40}),
    ({"kind": "eot_pgd", "steps": 7, "restarts": 3}, {"steps": 14, "restarts": 3}),
    ({"kind": "pgd"}, {"steps": 80}),
    ({"kind": "square", "queries": 50}, {"queries": 100}),
    ({"kind": "square"}, {"queries": 10_000}),
    (
        {"kind": "autoattack", "steps": 5, "targets": 3},
        {"steps": 10, "queries": 10_000, "targets": 3},
    ),
    # This version makes no queries.
    ({"kind": "autoattack", "version": "rand", "steps": 5}, {"version": "rand", "steps": 10}),
    # A single step is what the attack is, and what follows takes none.
    ({"kind": "eot_pgd", "steps": 1}, None),
    ({"kind": "pgd", "steps": 1}, None),
    ({"kind": "fgsm"}, None),
    ({"kind": "noise"}, None),
    ({"kind": "carlini_wagner_l2", "steps": 5}, None),
]


@pytest.mark.parametrize(("entry", "parameters"), LARGER)
def test_an_attack_with_a_budget_has_a_sibling_of_twice_the_budget(entry, parameters):
    against = ["bare"] if entry["kind"] == "carlini_wagner_l2" else ["filter", "bare"]

    def change(config):
        config["robustness"]["attacks"]["own"] = {**entry, "against": against}
        config["robustness"]["experiments"]["net"]["attacks"] = ["own"]

    study = load(change)
    own = study.attacks["own"]
    (examination,) = study.experiments
    if parameters is None:
        assert "own_larger" not in study.attacks
        assert examination.defense_attacks == ("own",)
        return
    larger = study.attacks["own_larger"]
    assert examination.defense_attacks == ("own", "own_larger")
    assert (larger.name, larger.kind, larger.against) == ("own_larger", own.kind, own.against)
    assert larger.parameters == parameters
    # Of two bounds the smaller; so many images as are asked for.
    assert (larger.epsilons, larger.images) == ((2 / 255,), 4)


def test_a_larger_budget_is_tried_at_the_middle_bound_on_no_more_images_and_no_other_model():
    def change(config):
        config["robustness"]["attacks"]["on_all"]["epsilons"] = ["16/255", "2/255", "8/255"]

    larger = load(change).attacks["on_all_larger"]
    assert larger.epsilons == (8 / 255,)
    # Three are those of the attack; four were asked for.
    assert larger.images == 3
    assert larger.against == ("filter", "bare", "mirror")
    other = load(at(*ATTACKS, "on_all", "against", value=["another"])).attacks
    assert "on_all" in other and "on_all_larger" not in other


@pytest.mark.parametrize(
    ("change", "siblings"),
    [
        ({}, []),
        ({"restarts": 5}, []),
        # Another attack, another defence, another bound: nothing to compare.
        ({"loss": "margin"}, ["own_larger", "long_larger"]),
        ({"against": ["mirror", "bare"]}, ["own_larger", "long_larger"]),
        ({"epsilons": ["8/255"]}, ["own_larger", "long_larger"]),
        (None, ["own_larger"]),
    ],
)
def test_where_an_experiment_lists_two_budgets_of_an_attack_it_needs_no_third(change, siblings):
    def both(config):
        own = {"kind": "eot_pgd", "against": ["filter"]}
        config["robustness"]["attacks"]["own"] = own
        config["robustness"]["attacks"]["long"] = {**own, "steps": 60, **(change or {})}
        # One that no experiment lists is not run, so that nothing is compared with it.
        listed = ["own"] if change is None else ["own", "long"]
        config["robustness"]["experiments"]["net"]["attacks"] = listed

    attacks = load(both).experiments[0].defense_attacks
    assert [name for name in attacks if name.endswith(settings.LARGER)] == siblings


def test_no_images_switch_larger_budgets_off():
    study = load(at("robustness", "larger_budget", value=0))
    assert set(study.attacks) == set(CONFIG["robustness"]["attacks"])
    assert study.experiments[0].defense_attacks == ("on_average", "on_all", "long")


def test_budgets_are_the_defaults_of_the_attacks():
    for kind, budget in attacks_kinds.BUDGETS.items():
        attack = create(KINDS, kind)
        assert {name: getattr(attack, name) for name in budget} == budget, kind
        assert set(budget) <= attacks_kinds.ATTACK_PARAMETERS[kind]


def test_a_larger_budget_asks_for_no_more_images_than_there_are():
    def change(config):
        del config["robustness"]["experiments"]["net"]["images"]
        config["robustness"]["larger_budget"] = 25

    # The least of the numbers is what is attacked.
    (examination,) = load(change, size=3).experiments
    assert examination.images == 3 and "on_average_larger" in examination.defense_attacks
    # Nobody knows whether there are so many.
    (examination,) = load(change, size=None).experiments
    assert examination.images is None
    assert examination.defense_attacks == ("on_average", "on_all", "long")


def test_models_in_use_are_known_before_names_are_checked():
    assert settings.models_in_use(CONFIG["robustness"], CONFIG) == {"net_b"}
    config = copy.deepcopy(CONFIG)
    entry = config["robustness"]["experiments"]["net"]
    entry["controls"] = ["mirror", "no such defence"]
    # The attack on the other network still needs it.
    assert settings.models_in_use(config["robustness"], config) == {"net_b"}
    entry["attacks"] = ["on_average", "no such attack"]
    assert settings.models_in_use(config["robustness"], config) == set()


# What may be said -------------------------------------------------------------------------------


def test_attacks_may_say_what_their_kinds_know_and_the_schema_describes():
    assert set(attacks_kinds.ATTACK_PARAMETERS) == set(KINDS)
    described = set(SCHEMA["attack_on_defense"]["properties"])
    for kind, names in attacks_kinds.ATTACK_PARAMETERS.items():
        # The library's alone: AutoAttack of chosen parts, and Carlini-Wagner that ends early.
        known = {field.name for field in fields(KINDS[kind])} - {"attacks", "abort_early"}
        assert names == known, kind
        assert names <= described, kind


def test_the_schema_describes_nothing_that_no_kind_knows():
    own = {"kind", "against", "epsilons", "images"}
    known = set().union(*attacks_kinds.ATTACK_PARAMETERS.values())
    assert set(SCHEMA["attack_on_defense"]["properties"]) == own | known
    assert set(SCHEMA["attack_on_defense"]["properties"]["kind"]["enum"]) == set(KINDS)
    known = set().union(*kinds.PARAMETERS.values())
    assert set(SCHEMA["defense"]["properties"]) == {"kind"} | known
    assert set(SCHEMA["defense"]["properties"]["kind"]["enum"]) == set(kinds.PARAMETERS)


@pytest.mark.parametrize("kind", attacks_kinds.ATTACK_PARAMETERS)
def test_minimal_kinds_are_those_that_know_no_epsilon(kind):
    assert create(KINDS, kind).minimal == (kind in attacks_kinds.MINIMAL_KINDS)


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("low_pass", {}, {"deterministic", "transforms", "filters"}),
        ("jpeg", {}, {"deterministic", "transforms"}),
        ("noise", {}, {"random", "transforms"}),
        ("python", {"random": True}, {"random", "transforms"}),
        ("post_averaging", {}, {"random"}),
        ("undefended", {}, set()),
    ],
)
def test_words_stand_for_kinds_of_defences(kind, parameters, words):
    entry = DefenseEntry("one", kind, parameters)
    assert {word for word in GROUPS if entry.belongs(word)} == words


# Mistakes ---------------------------------------------------------------------------------------


def at(*path, value):
    """Return a change of one value of the configuration."""

    def change(config):
        *parents, last = path
        for part in parents:
            config = config[part]
        config[last] = value

    return change


def too_many_of_an_attack(config):
    del config["robustness"]["experiments"]["net"]["images"]
    config["robustness"]["attacks"]["on_all"]["images"] = 21


ENTRY = ("robustness", "experiments", "net")
ATTACKS = ("robustness", "attacks")
PLACE = r"^robustness.experiments.net"

WRONG = {
    "defence": (
        at(*ENTRY, "defenses", value=["averag"]),
        rf"{PLACE} names 'averag', which is not among the defenses; .*mean 'average'",
    ),
    "control": (
        at(*ENTRY, "controls", value=["mirorr"]),
        rf"{PLACE} names 'mirorr', which is not among the defenses; .*mean 'mirror'",
    ),
    "attack": (
        at(*ENTRY, "attacks", value=["on_al"]),
        rf"{PLACE} names 'on_al', which is not among the attacks of robustness; .*mean 'on_all'",
    ),
    "stretched attack": (
        at(*ENTRY, "scaled", value=["deepfool_l2"]),
        rf"{PLACE}.scaled names 'deepfool_l2', .*allowed: 'pgd', 'pgd_minimal'",
    ),
    "too many images": (
        at(*ENTRY, "images", value=21),
        rf"{PLACE}.images must be from 1 to 20, the images of 'images', got 21\.$",
    ),
    "against": (
        at(*ATTACKS, "on_average", "against", value=["avrage"]),
        r"^robustness.attacks.on_average.against names 'avrage', .*mean 'average'",
    ),
    "parameter of another attack": (
        at(*ATTACKS, "on_all", "samples", value=2),
        r"^robustness.attacks.on_all is of the kind 'pgd', which has no 'samples'; allowed: 'rel",
    ),
    "parameter of an attack without any": (
        at(*ATTACKS, "idle", "steps", value=2),
        r"^robustness.attacks.idle is of the kind 'fgsm', which has no 'steps'; allowed: none\.",
    ),
    "epsilon 8": (
        at(*ATTACKS, "on_all", "epsilons", value=["8/255", 8]),
        r"robustness.attacks.on_all.epsilons is the l_inf bound .*mean '8/255'",
    ),
    "epsilon 8 of the study": (
        at("robustness", "epsilons", value=[8]),
        r"robustness.epsilons is the l_inf bound .*mean '8/255'",
    ),
    "epsilons of a minimal attack": (
        at(*ATTACKS, "long", "epsilons", value=["8/255"]),
        r"^robustness.attacks.long minimises the perturbation; it takes no 'epsilons'\.",
    ),
    "too many images of an attack": (
        too_many_of_an_attack,
        r"^robustness.attacks.on_all.images must be from 1 to 20, .*, got 21; .*limits all attacks",
    ),
    "an attack on a defence that is not listed": (
        at(*ENTRY, "attacks", value=["on_all", "elsewhere"]),
        rf"{PLACE} lists the attack 'elsewhere', which would never run: it is against 'mirror', "
        r"and robustness.experiments.net.defenses lists 'average', 'filter'; list",
    ),
    "an attack where no defence is listed": (
        at(*ENTRY, "defenses", value=[]),
        rf"{PLACE} lists the attack 'on_average', .* against 'average', .*defenses lists none;",
    ),
    "the identity for no transform": (
        at(*ATTACKS, "on_average", "gradient", value="identity"),
        r"^robustness.attacks.on_average.against names 'average', of the kind 'post_averaging', "
        r"but its gradient 'identity' is for defences that transform .* of the kinds 'low_pass'",
    ),
    "a band of no filter": (
        at(*ATTACKS, "on_average", "band", value=True),
        r"^robustness.attacks.on_average.against names 'average', of the kind 'post_averaging', "
        r"but its 'band' is for defences that filter frequencies, of the kind 'low_pass'\.",
    ),
    "standard AutoAttack on a defence that draws": (
        at(*ATTACKS, "elsewhere", value={"kind": "autoattack", "against": ["filter", "average"]}),
        r"^robustness.attacks.elsewhere.against names 'average', whose output is another one in "
        r"each call, but its version 'standard' is .*; 'rand' is the version for this one\.",
    ),
    "a reserved name of a defence": (
        at("defenses", "any", value={"kind": "flip"}),
        r"^defenses has the name 'any', which the tables use .* but 'clean', 'strongest', 'none', ",
    ),
    "a reserved name of an attack": (
        at(*ATTACKS, "strongest", value={"kind": "fgsm", "against": ["bare"]}),
        r"^robustness.attacks has the name 'strongest', which the tables use for something else;",
    ),
    "the name of a larger budget": (
        at(*ATTACKS, "on_all_larger", value={"kind": "fgsm", "against": ["bare"]}),
        r"^robustness.attacks.on_all_larger has a name that ends in '_larger', which is kept for "
        r"the runs of 'robustness.larger_budget'; give it another name\.$",
    ),
    "another kind under the name of the bare network": (
        at("defenses", "undefended", value={"kind": "flip"}),
        r"^defenses.undefended is of the kind 'flip'; this name is for the network without a def",
    ),
    "a minimal attack on another network": (
        at(*ATTACKS, "long", "against", value=["bare", "another"]),
        r"^robustness.attacks.long.against names 'another', another model; an attack that minimis",
    ),
    "parameter of another defence": (
        at("defenses", "filter", "quality", value=90),
        r"^defenses.filter is of the kind 'low_pass', which has no 'quality'; allowed: 'cutoff'",
    ),
    "near parameter": (
        at("defenses", "average", value={"kind": "post_averaging", "direction": "left"}),
        r"^defenses.average .*which has no 'direction'; .*mean 'directions'",
    ),
    "low pass without cutoff": (
        at("defenses", "filter", value={"kind": "low_pass"}),
        r"^defenses.filter is of the kind 'low_pass', which needs 'cutoff'\.",
    ),
    "other model without model": (
        at("defenses", "another", value={"kind": "other_model"}),
        r"^defenses.another is of the kind 'other_model', which needs 'model'\.",
    ),
    "model": (
        at("defenses", "another", "model", value="net_c"),
        r"^defenses.another.model names 'net_c', which is not among the models; .*mean 'net_b'",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_told_in_one_sentence(change, message):
    with pytest.raises(UserError, match=message) as caught:
        load(change)
    assert "\n" not in str(caught.value)


def test_a_number_of_images_that_is_not_known_is_not_refused():
    assert load(at(*ENTRY, "images", value=21), size=None).experiments[0].images == 21
    assert load(at(*ENTRY, "images", value=20)).experiments[0].images == 20
    own = at(*ATTACKS, "on_all", "images", value=21)
    assert load(own, size=None).attacks["on_all"].images == 21
    assert load(at(*ATTACKS, "on_all", "images", value=20)).attacks["on_all"].images == 20
    # The experiment takes five, and of two numbers the smaller is attacked.
    load(at(*ATTACKS, "on_all", "images", value=21))


@pytest.mark.parametrize("name", settings.RESERVED)
def test_names_of_the_tables_are_reserved(name):
    for path, entry in (
        (("defenses", name), {"kind": "flip"}),
        ((*ATTACKS, name), {"kind": "fgsm", "against": ["bare"]}),
    ):
        with pytest.raises(UserError, match=f"has the name '{name}'"):
            load(at(*path, value=entry))


def test_reserved_names_are_those_of_the_tables():
    assert {rates.CLEAN, rates.STRONGEST, rates.ANY} < set(settings.RESERVED)


@pytest.mark.parametrize(
    "change",
    [
        at(*ATTACKS, "on_average", "samples", value=2),
        at(*ATTACKS, "fits", value={"kind": "eot_pgd", "against": ["filter"], "band": True}),
        at(
            *ATTACKS,
            "fits",
            value={"kind": "eot_pgd", "against": ["filter", "mirror"], "gradient": "identity"},
        ),
        at(*ATTACKS, "fits", value={"kind": "autoattack", "against": ["filter", "bare"]}),
        at(
            *ATTACKS,
            "fits",
            value={"kind": "autoattack", "against": ["average"], "version": "rand"},
        ),
    ],
)
def test_an_attack_that_suits_its_defence_is_not_refused(change):
    load(change)


class Network(torch.nn.Module):
    """A linear network, the first layer of which is a convolution."""

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(1, 1, 3, padding=1)
        self.linear = torch.nn.Linear(64, 3)

    def forward(self, u):
        return self.linear(self.convolution(u).flatten(1))


def made(kind, **parameters):
    """Return a defence of a linear network."""
    classifier = models_classifier.Classifier(
        Network(), mean=[0.5], std=[0.25], shape=(1, 8, 8), classes=3
    ).requires_grad_(False)
    return catalogue.create(
        kind,
        classifier,
        name=DrawName(1, "test", "images", "net"),
        radius=1.0,
        directions=3,
        other=classifier,
        **parameters,
    )


def entry_of(kind, **parameters):
    return defenses.DefenseEntry(name="d", kind=kind, parameters=parameters)


NEEDED = {
    "low_pass": {"cutoff": 2},
    "smoothed_kernels": {"rho": 1},
    "other_model": {"model": "net_b"},
    "python": {"source": f"{HOME}/docs/own_defense/defense.py:RandomResize"},
}


@pytest.mark.parametrize("kind", kinds.PARAMETERS)
def test_what_suits_a_kind_is_what_its_class_can_do(kind):
    defense = made(kind, **NEEDED.get(kind, {}))
    assert defense.random == entry_of(kind).random
    try:
        defense.gradient_through_identity()
    except UserError:
        assert kind not in defenses_kinds.TRANSFORMS
    else:
        assert kind in defenses_kinds.TRANSFORMS
    unit = torch.rand((1, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    filtered = not torch.equal(defense.project(unit), unit)
    assert filtered == (kind in defenses_kinds.FILTERS)


def test_fixed_directions_are_not_random():
    assert not entry_of("post_averaging", draws="fixed").random
    assert entry_of("post_averaging", draws="fresh").random


def test_numbers_are_numbers():
    study = load()
    assert study.factors == (1.0, 2.0)
    assert math.isclose(study.attacks["on_all"].epsilons[0], 8 / 255)
