import copy
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bandlimit.attacks import kinds
from bandlimit.config import overlays, run, schema
from bandlimit.errors import UserError, suggest
from bandlimit.plan import load as plan_load

HOME = Path(__file__).parents[2]
BASE = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))
# Most of their networks belong to these studies alone; for mistakes see test_learning_settings.py.
del BASE["high_frequency"], BASE["frequency_principle"]
del BASE["experiments"]["fashion_mnist_small"]
BASE["training"] = {n: r for n, r in BASE["training"].items() if "_small" not in n}
OWN_MODEL = {
    "path": "weights.th",
    "architecture": "cifar_resnet20",
    "classes": 10,
    "shape": [1, 28, 28],
    "mean": [0.3],
    "std": [0.35],
}
GONE = object()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Local paths of a configuration start in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.th").write_bytes(b"")
    (tmp_path / "images").mkdir()


def changed(changes, base=BASE):
    """Return a configuration with other values at paths such as 'datasets.a.images'."""
    config = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = config
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if isinstance(place, list):
            place[int(last)] = value
        elif value is GONE:
            del place[last]
        else:
            place[last] = value
    return config


def load(changes):
    return plan_load.load(changed(changes), HOME)


X0 = "experiments.fashion_mnist"
A0 = "bandlimiting.experiments.fashion_mnist"
R0 = "robustness.experiments.fashion_mnist"
RECIPE = "training.fashion_mnist_resnet8"
NOT_AN_EPSILON = r"l_inf bound in pixels of \[0, 1\]"

WRONG = {
    # Misspelt keys, at each depth.
    "key": ({"sede": 1}, r"Unknown key 'sede' in the configuration; .*mean 'seed'"),
    "key of the study": (
        {"bandlimiting.epsilon_s": [0.1]},
        r"Unknown key 'epsilon_s' in 'bandlimiting' .*mean 'epsilons'",
    ),
    "key of an experiment": (
        {f"{A0}.direction": 3},
        r"Unknown key 'direction' in 'bandlimiting.experiments.fashion_mnist' .*mean 'directions'",
    ),
    "key of a dataset": (
        {"datasets.fashion_mnist.image": 3},
        r"Unknown key 'image' in 'datasets.fashion_mnist' .*mean 'images'",
    ),
    "key of a model": (
        {"models.own": {**OWN_MODEL, "clases": 3}},
        r"Unknown key 'clases' in 'models.own' .*mean 'classes'",
    ),
    "key of a recipe": (
        {"training.fashion_mnist_resnet8.epoch": 3},
        r"Unknown key 'epoch' in 'training.fashion_mnist_resnet8' .*mean 'epochs'",
    ),
    "key of an augmentation": (
        {"training.fashion_mnist_resnet8.augmentation.flips": True},
        r"Unknown key 'flips' .*mean 'flip'",
    ),
    "parameter of an attack": (
        {"attacks.pgd_minimal.step": 3},
        r"Unknown key 'step' in 'attacks.pgd_minimal' .*mean 'steps'",
    ),
    "parameter of an experiment's attack": (
        {f"{X0}.attacks.pgd": {"epsilon": 0.1}},
        r"Unknown key 'epsilon' in .*attacks.pgd.*mean 'epsilons'",
    ),
    # Names that the registries and the configuration lack.
    "attack": (
        {f"{X0}.attacks.pgd_minmal": None},
        r"Unknown key 'pgd_minmal' in 'experiments.fashion_mnist.attacks' .*'pgd_minimal'\?",
    ),
    "attack of the crossings": (
        {f"{A0}.crossings": ["pgd_minimla"]},
        r"names 'pgd_minimla', which is not among the attacks .*mean 'pgd_minimal'",
    ),
    "sampler": ({f"{A0}.samplers": ["randon"]}, r"has no choice 'randon'; .*mean 'random'"),
    "model": (
        {f"{X0}.model": "fashion_mnist_resnet2"},
        r"names 'fashion_mnist_resnet2', which is not among the registered models; .*resnet8'\?",
    ),
    "architecture": (
        {"models.own": {**OWN_MODEL, "architecture": "cifar_resnet21"}},
        r"models.own.architecture is 'cifar_resnet21', .*\(did you mean 'cifar_resnet2",
    ),
    "dataset": (
        {f"{X0}.dataset": "fashion_mnits"},
        r"experiments.fashion_mnist.dataset names 'fashion_mnits', .*among the datasets; "
        r".*'fashion_mnist'",
    ),
    "source": (
        {"datasets.fashion_mnist.source": "cifar_10"},
        r"datasets.fashion_mnist.source names 'cifar_10', .*mean 'cifar10'",
    ),
    "split": (
        {"datasets.fashion_mnist.split": "tset"},
        r"datasets.fashion_mnist.split names 'tset', .*mean 'test'",
    ),
    "loader": (
        {"datasets.own": {"loader": "folder", "path": "images", "classes": 10}},
        r"'datasets.own.loader' .*has no choice 'folder'; .*mean 'imagefolder'",
    ),
    "model to train": (
        {"training.fashion_mnist_resnet": BASE["training"]["fashion_mnist_resnet8"]},
        r"training.fashion_mnist_resnet names .* not among the models; .*resnet8'\?",
    ),
    "dataset to train on": (
        {"training.fashion_mnist_resnet8.dataset": "fashion_mnist_trian"},
        r"names 'fashion_mnist_trian', .*mean 'fashion_mnist_train'",
    ),
    "device": ({"device": "gpu"}, r"'device' .*choice 'gpu'; allowed: 'auto', 'cpu', 'cuda'\.$"),
    "no device": ({"device": None}, r"'device' .*has no choice nothing; allowed: 'auto', 'cpu'"),
    # Epsilons.
    "epsilon 8": ({f"{X0}.epsilon": 8}, rf"{NOT_AN_EPSILON}.*got 8 \(did you mean '8/255'"),
    "epsilon '8'": ({f"{X0}.epsilon": "8"}, r"fashion_mnist.epsilon .*mean '8/255'"),
    "epsilons": ({"bandlimiting.epsilons": ["1/255", 8]}, r"bandlimiting.epsilons .*mean '8/255'"),
    "epsilon of an attack": (
        {"attacks.pgd.epsilons": [8], f"{X0}.attacks.pgd": None},
        r"attacks.pgd.epsilons .*mean '8/255'",
    ),
    "epsilon of an experiment": (
        {f"{X0}.attacks.fgsm": {"epsilons": ["2/255", 16]}},
        r"attacks.fgsm.epsilons .*mean '16/255'",
    ),
    "negative epsilon": ({f"{X0}.epsilon": "-8/255"}, rf"{NOT_AN_EPSILON}.*got '-8/255'\."),
    "epsilon of words": ({f"{X0}.epsilon": "eight"}, rf"{NOT_AN_EPSILON}.*got 'eight'\."),
    "epsilon over 0": ({f"{X0}.epsilon": "8/0"}, rf"{NOT_AN_EPSILON}.*got '8/0'\."),
    "epsilon without bound": ({f"{X0}.epsilon": 1e9}, rf"{NOT_AN_EPSILON}.*\d\."),
    "epsilon that is no number": ({f"{X0}.epsilon": math.nan}, r"must be a finite number"),
    "epsilon that is a list": ({f"{X0}.epsilon": [8]}, r"must be text or a number"),
    "no epsilons": ({"bandlimiting.epsilons": []}, r"epsilons.* must have at least 1 entry"),
    # r, K and subset sizes.
    "radius 0": ({f"{A0}.radius": 0}, r"experiments.fashion_mnist.radius' .*greater than 0, got 0"),
    "negative radius": ({f"{A0}.radius": -6}, r"radius' .*must be greater than 0, got -6"),
    "radius too large": ({f"{A0}.radius": 1e6}, r"radius' .*must be at most 1000, got 1000000"),
    "radius that is no number": ({f"{A0}.radius": math.nan}, r"radius"),
    "radius of words": ({f"{A0}.radius": "six"}, r"radius' .*must be a number, got 'six'"),
    "radii": ({f"{A0}.radii": [1, 0]}, r"radii\[1\]' .*must be greater than 0, got 0"),
    "radii twice": ({f"{A0}.radii": [1, 1]}, r"radii' .*must not name anything twice"),
    "directions 0": ({f"{A0}.directions": 0}, r"directions' .*must be at least 1, got 0"),
    "negative directions": ({f"{A0}.directions": -15}, r"directions' .*at least 1, got -15"),
    "directions too many": (
        {f"{A0}.directions": 10**6},
        r"directions' .*at most 1000, got 1000000",
    ),
    "half a direction": ({f"{A0}.directions": 1.5}, r"directions' .*must be a whole number"),
    "sweep": ({f"{A0}.directions_sweep": [6, -1]}, r"directions_sweep\[1\]' .*at least 1, got -1"),
    "draws": ({f"{A0}.draws": 0}, r"draws' .*must be at least 1, got 0"),
    "shards": ({f"{X0}.shards": 0}, r"shards' .*must be at least 1, got 0"),
    "subset 0": ({"datasets.fashion_mnist.images": 0}, r"images' .*must be at least 1, got 0"),
    "negative subset": ({"datasets.fashion_mnist.images": -5}, r"images' .*at least 1, got -5"),
    "subset too large": (
        {"datasets.fashion_mnist.images": 10_001},
        r"datasets.fashion_mnist.images must be from 1 to 10000, got 10001",
    ),
    "subset of all splits": (
        {"datasets.fashion_mnist": {"source": "mnist", "images": 70_001}},
        r"must be from 1 to 70000, got 70001",
    ),
    "seed": ({"seed": -1}, r"'seed' .*must be at least 0, got -1"),
    "epsilon 0": (
        {"experiments.fashion_mnist.epsilon": 0},
        r"experiments\.fashion_mnist\.epsilon .*a number above 0 and up to 1, .*got 0\.",
    ),
    "more shards than images": (
        {"experiments.fashion_mnist.shards": 241},
        r"experiments\.fashion_mnist\.shards must be from 1 to 240, .*'fashion_mnist', got 241",
    ),
    "whole, but written as a float": (
        {f"{A0}.directions": 15.0},
        r"directions' .*must be a whole number, got 15\.0",
    ),
    "seed of words": ({"seed": "a"}, r"'seed' .*must be a whole number, got 'a'"),
    "steps": ({"attacks.pgd_minimal.steps": 0}, r"attacks.pgd_minimal.steps' .*at least 1, got 0"),
    "adversarial training without a bound": (
        {"training.fashion_mnist_resnet8.adversarial": {"steps": 2}},
        r"The key 'epsilon' is missing in 'training.*resnet8.adversarial'.*: The l_inf bound",
    ),
    "batch": (
        {"training.fashion_mnist_resnet8.batch_size": 1},
        r"batch_size' .*must be at least 4, got 1",
    ),
    # The study of robustness; more of it in test_examinations.py.
    "key of a defence": (
        {"defenses.low_pass.cut_off": 7},
        r"Unknown key 'cut_off' in 'defenses.low_pass' .*mean 'cutoff'",
    ),
    "kind of a defence": (
        {"defenses.low_pass.kind": "lowpass"},
        r"'defenses.low_pass.kind' .*has no choice 'lowpass'; .*mean 'low_pass'",
    ),
    "a defence without kind": (
        {"defenses.mine": {"cutoff": 7}},
        r"The key 'kind' is missing in 'defenses.mine' .*: What it does",
    ),
    "a defence with a dash": ({"defenses.low-pass": {"kind": "flip"}}, r"name 'low-pass'; al"),
    "parameter of another defence": (
        {"defenses.jpeg.cutoff": 7},
        r"defenses.jpeg is of the kind 'jpeg', which has no 'cutoff'; allowed: 'quality'",
    ),
    "cutoff": ({"defenses.low_pass.cutoff": -1}, r"low_pass.cutoff' .*at least 0, got -1"),
    "low pass without cutoff": (
        {"defenses.low_pass": {"kind": "low_pass"}},
        r"defenses.low_pass .*needs 'cutoff'",
    ),
    "smoothed kernels without rho": (
        {"defenses.soft": {"kind": "smoothed_kernels", "normalize": True}},
        r"defenses.soft is of the kind 'smoothed_kernels', which needs 'rho'\.",
    ),
    "negative rho": (
        {"defenses.soft": {"kind": "smoothed_kernels", "rho": -0.5}},
        r"defenses.soft.rho' .*at least 0, got -0.5",
    ),
    "rho without bound": (
        {"defenses.soft": {"kind": "smoothed_kernels", "rho": math.inf}},
        r"defenses.soft.rho",
    ),
    "rho of another defence": (
        {"defenses.low_pass.rho": 1},
        r"defenses.low_pass is of the kind 'low_pass', which has no 'rho'; allowed: 'cutoff'",
    ),
    "normalize that is no switch": (
        {"defenses.soft": {"kind": "smoothed_kernels", "rho": 1, "normalize": 9}},
        r"defenses.soft.normalize' .*got 9",
    ),
    "another model without model": (
        {"defenses.other_model": {"kind": "other_model"}},
        r"defenses.other_model .*needs 'model'",
    ),
    "another model": (
        {"defenses.other_model.model": "fashion_mnist_resnet8_c"},
        r"defenses.other_model.model names 'fashion_mnist_resnet8_c', .*mean 'fashion_mnist_res",
    ),
    "another model of another shape": (
        {"defenses.other_model.model": "imagenet_efficientnet_lite0"},
        r"defenses.other_model.model is 'imagenet_efficientnet_lite0', which takes images of .* in "
        r"the place of 'fashion_mnist_resnet8' .* take 'other_model' out of the lists",
    ),
    "another model without recipe": (
        {"training.fashion_mnist_resnet8_b": GONE},
        r"'fashion_mnist_resnet8_b' is trained .* no recipe for it .*'fashion_mnist_resnet8'",
    ),
    "key of robustness": (
        {"robustness.draw": 3},
        r"Unknown key 'draw' in 'robustness' .*mean 'draws'",
    ),
    "way to stop": ({"robustness.stop": "sequentail"}, r"stop' .*mean 'sequential'"),
    "judging draws": ({"robustness.draws": 0}, r"robustness.draws' .*at least 1, got 0"),
    "error probability": ({"robustness.error": 1}, r"error' .*must be less than 1, got 1"),
    "factors": ({"robustness.factors": []}, r"factors' .*must have at least 1 entry"),
    "key of an attack on defences": (
        {"robustness.attacks.square.querys": 3},
        r"Unknown key 'querys' in 'robustness.attacks.square' .*mean 'queries'",
    ),
    "kind of an attack on defences": (
        {"robustness.attacks.square.kind": "squares"},
        r"'robustness.attacks.square.kind' .*has no choice 'squares'; .*mean 'square'",
    ),
    "an attack on nothing": (
        {"robustness.attacks.square.against": GONE},
        r"The key 'against' is missing in 'robustness.attacks.square'",
    ),
    "an attack on an unknown defence": (
        {"robustness.attacks.square.against": ["lowpass"]},
        r"robustness.attacks.square.against names 'lowpass', .*mean 'low_pass'",
    ),
    "parameter of another attack on defences": (
        {"robustness.attacks.square.samples": 2},
        r"robustness.attacks.square is of the kind 'square', which has no 'samples'; allowed",
    ),
    "epsilon 8 of robustness": ({"robustness.epsilons": [8]}, r"robustness.epsilons .*'8/255'"),
    "epsilon 8 of an attack on defences": (
        {"robustness.attacks.square.epsilons": [8]},
        r"robustness.attacks.square.epsilons .*mean '8/255'",
    ),
    "key of an examination": (
        {f"{R0}.control": ["flip"]},
        r"Unknown key 'control' in 'robustness.experiments.fashion_mnist' .*mean 'controls'",
    ),
    "defence under examination": (
        {f"{R0}.defenses": ["post_average"]},
        r"robustness.experiments.fashion_mnist names 'post_average', .*mean 'post_averaging'",
    ),
    "attack of an examination": (
        {f"{R0}.attacks": ["eot_pdg"]},
        r"robustness.experiments.fashion_mnist names 'eot_pdg', which is not among the "
        r"attacks of robustness; .*'eot_pgd'\?",
    ),
    "control": (
        {f"{R0}.controls": ["flipp"]},
        r"robustness.experiments.fashion_mnist names 'flipp', which is not among the "
        r"defenses; .*mean 'flip'",
    ),
    "a stretched attack that spends all": (
        {f"{R0}.scaled": ["pgd"]},
        r"robustness.experiments.fashion_mnist.scaled\[0\]' .*has no choice 'pgd'; "
        r"allowed: 'carlini_wagner_l2'",
    ),
    "images of an examination": (
        {"datasets.fashion_mnist.images": 100, f"{R0}.images": 101},
        r"robustness.experiments.fashion_mnist.images must be from 1 to 100, the images "
        r"of 'fashion_mnist', got 101",
    ),
    "images of an attack on defences": (
        {
            "datasets.fashion_mnist.images": 60,
            f"{R0}.images": GONE,
            "robustness.attacks.square.images": 61,
        },
        r"attacks.square.images must be from 1 to 60, the images of 'fashion_mnist', got 61",
    ),
    "an attack on no listed defence": (
        {
            f"{R0}.defenses": ["post_averaging_fixed", "low_pass"],
            "robustness.attacks.eot_pgd.against": ["post_averaging"],
        },
        r"robustness.experiments.fashion_mnist lists the attack 'eot_pgd', .*against "
        r"'post_averaging', and .*; list",
    ),
    "a name of the tables": (
        {"defenses.clean": {"kind": "flip"}},
        r"defenses has the name 'clean', which the tables use for something else",
    ),
    "standard AutoAttack on fresh draws": (
        {
            "defenses.post_averaging_fixed.draws": "fresh",
            "robustness.attacks.autoattack.against": ["post_averaging_fixed"],
        },
        r"autoattack.against names 'post_averaging_fixed', .*version 'standard'",
    ),
    # What is missing, or does not go together.
    "a fixed attack without epsilons": (
        {"attacks.pgd": None, f"{X0}.attacks.pgd": None},
        r"pgd.*epsilons",
    ),
    "no attacks": ({f"{X0}.attacks": {}, f"{A0}.crossings": []}, r"attacks"),
    "no seed": ({"seed": GONE}, r"The key 'seed' is missing in the configuration: Number"),
    "no radius": ({f"{A0}.radius": GONE}, r"key 'radius' is missing in 'bandlimiting.experiments"),
    "no experiments": ({"experiments": {}}, r"'experiments' .* must name at least 1"),
    "no study": (
        {"bandlimiting": None, "perturbation_spectra": None, "robustness": None},
        r"The configuration runs nothing: a section of a study \(bandlimiting, "
        r"perturbation_spectra, high_frequency, frequency_principle, robustness\) must name",
    ),
    "studies of none of these": (
        {"only": ["imagenet_samples"], "bandlimiting": None},
        r"runs nothing: .* at least one experiment of those in 'only', 'imagenet_samples'\.",
    ),
    "an experiment to run": (
        {"only": ["fashion_mnits"]},
        r"only names 'fashion_mnits', which is not among the experiments; .*'fashion_mnist'",
    ),
    "an experiment of a study": (
        {"robustness.experiments.fashion_mnits": {}},
        r"robustness.experiments names 'fashion_mnits', which is not among the experiments; .*mean",
    ),
    "a study": (
        {"robustnes": {}},
        r"Unknown key 'robustnes' in the configuration; .*mean 'robustness'",
    ),
    "a radius that nothing says": (
        {f"{X0}.document": GONE, "bandlimiting": None},
        r"The defence 'post_averaging' of robustness.experiments.fashion_mnist needs 'radius'; set",
    ),
    "a pair twice": (
        {
            "experiments.again": BASE["experiments"]["fashion_mnist"],
            "robustness.experiments.again": {},
        },
        r"The experiments 'fashion_mnist' and 'again' have the same dataset and model",
    ),
    "another shape": (
        {f"{X0}.dataset": "imagenet_samples", "only": ["fashion_mnist"]},
        r"'fashion_mnist_resnet8' takes images of shape \(1, 28, 28\), but .*\(3, 224, 224\)",
    ),
    "nothing for a mapping": (
        {"datasets": None},
        r"'datasets' .*must be a mapping of keys to values, got nothing\.$",
    ),
    # As it was before experiments were shared.
    "a list of experiments": (
        {"bandlimiting.experiments": [{"dataset": "fashion_mnist"}]},
        r"bandlimiting.experiments is a list, .* dataset, model, .* have moved to experiments.NAME",
    ),
    "one epsilon for all": (
        {"bandlimiting.epsilon": "8/255"},
        r"'epsilon' of bandlimiting has moved: each experiment has its own, "
        r"experiments.NAME.epsilon",
    ),
    "a dataset of a section that has moved": (
        {f"{A0}.dataset": "fashion_mnist"},
        r"'dataset' of bandlimiting.* has moved: it is experiments.fashion_mnist.dataset at",
    ),
    "robustness of an experiment that has moved": (
        {f"{A0}.robustness": {}},
        r"'robustness' of bandlimiting.* has moved: it is robustness.experiments.fashion_mnist at",
    ),
    "an epsilon with a huge exponent": ({f"{X0}.epsilon": "1e999999999"}, NOT_AN_EPSILON),
    "an epsilon of three": ({f"{X0}.epsilon": "1/2/3"}, rf"{NOT_AN_EPSILON}.*got '1/2/3'\.$"),
    "an epsilon in two notations": (
        {"bandlimiting.epsilons": ["8/255", "16/510"]},
        r"bandlimiting.epsilons names the same epsilon twice, as '8/255' and as '16/510'",
    ),
    "a model of an experiment that does not run": (
        {"experiments.idle": {"dataset": "fashion_mnist", "model": "nothing"}},
        r"experiments.idle.model names 'nothing', which is not among the registered models",
    ),
    "a long value": ({"seed": "a" * 5000}, r"must be a whole number, got 'a+\.\.\.\.$"),
    "no experiment to run": ({"only": []}, r"'only' .* must have at least 1 entry, got"),
    "an empty dataset": ({"datasets.own": {}}, r"datasets.own needs either 'source'"),
    "a dataset without classes": (
        {"datasets.own": {"loader": "imagefolder", "path": "images"}},
        r"datasets.own needs either 'source', .*got loader, path",
    ),
    "ImageNet without folder": (
        {"datasets.own": {"source": "imagenet_val"}},
        r"datasets.own needs a 'path': the folder with the images of 'imagenet_val'",
    ),
    "a list for a mapping": (
        {"datasets": []},
        r"'datasets' .*must be a mapping of keys to values, got \[\]",
    ),
    "text for a list": (
        {"bandlimiting.epsilons": "1/255"},
        r"'bandlimiting.epsilons' .*must be a list, got '1/255'",
    ),
    "words for true": ({"bandlimiting.bfloat16": "on"}, r"must be true or false, got 'on'"),
    "true for a number": ({f"{A0}.radius": True}, r"radius' .*must be a number, got true"),
    "an empty path": (
        {"models.own": {**OWN_MODEL, "path": ""}},
        r"'models.own.path' .* must not be empty, got ''",
    ),
    "a shape of four": (
        {"models.own": {**OWN_MODEL, "shape": [1, 1, 28, 28]}},
        r"'models.own.shape' .* must have at most 3 entries",
    ),
    "a name that is a number": (
        {"datasets": {**BASE["datasets"], 5: {"source": "mnist"}}},
        r"A key of 'datasets' in the configuration must be text .* got 5, .* for a number",
    ),
    "a defence that is a number": (
        {"defenses": {**BASE["defenses"], 3: {"kind": "flip"}}},
        r"A key of 'defenses' in the configuration must be text .* got 3,",
    ),
    "a key that is a number": ({"bandlimiting": {5: 1}}, r"A key of 'bandlimiting' .* got 5,"),
    "a key that is true": ({"datasets.fashion_mnist": {True: 1}}, r"got true, .* true or false"),
    "a name with a dash": (
        {"datasets.my-images": {"source": "mnist"}},
        r"^'datasets' in the configuration has the name 'my-images'; allowed: lower-case letters, "
        r"digits and underscores, beginning with a letter\.$",
    ),
    "a model without file": (
        {"models.own": {**OWN_MODEL, "path": "weihgts.th"}},
        r"models.own.path must be an existing file, got 'weihgts.th'",
    ),
    "a model that is a folder": (
        {"models.own": {**OWN_MODEL, "path": "images"}},
        r"models.own.path must be an existing file, got 'images'",
    ),
    "a mean for each channel": (
        {"models.own": {**OWN_MODEL, "mean": [0.1, 0.2]}},
        r"models.own.mean and .std need one number for each of the 1 channels",
    ),
    "a std of 0": ({"models.own": {**OWN_MODEL, "std": [0]}}, r"std\[0\]' .*greater than 0"),
    "a checksum": ({"models.own": {**OWN_MODEL, "sha256": "12ab"}}, r"must be 64 hexadecimal dig"),
    "a gate without accuracy": (
        {"models.own": {**OWN_MODEL, "gate_dataset": "a"}},
        r"The key 'gate_accuracy' is missing in 'models.own' .*, where 'gate_dataset' asks for it",
    ),
    "a mean of pixels to 255": (
        {"models.own": {**OWN_MODEL, "mean": [72.9]}},
        r"models.own.mean is that of pixels in \[0, 1\], .* got \[72.9\]; divide .* by 255",
    ),
    "a std of pixels to 255": (
        {"models.own": {**OWN_MODEL, "std": [90]}},
        r"models.own.std is that of pixels in \[0, 1\], .* got \[90\]; divide .* by 255",
    ),
    # What a run would do, and mean nothing by.
    "a source and a loader": (
        {"datasets.own": {"source": "mnist", "loader": "imagefolder", "path": "images"}},
        r"datasets.own has both 'source' 'mnist' and 'loader' 'imagefolder'; allowed is either",
    ),
    "a low-pass that passes all": (
        {"defenses.low_pass.cutoff": 20},
        r"low_pass.cutoff lets every frequency of the 28 x 28 images .* below 19.79, got 20",
    ),
    "smoothed kernels of a network without any": (
        {
            "models.own": {**OWN_MODEL, "architecture": "two_layer"},
            f"{X0}.model": "own",
            "perturbation_spectra": None,
            "defenses.soft": {"kind": "smoothed_kernels", "rho": 1},
            f"{R0}.defenses": ["post_averaging", "post_averaging_fixed", "low_pass"],
            f"{R0}.controls": ["soft"],
        },
        r"^defenses.soft smooths the kernels of a first convolution, and the model 'own' has none; "
        r"allowed: models of any architecture but 'two_layer', 'fully_connected'\.$",
    ),
    "a search that ends below the study": (
        {"attacks.fgsm_minimal.max_epsilon": 0.1},
        r"'fgsm_minimal' of experiments.fashion_mnist ends at .* 0.1, .* at least 0.1255,",
    ),
    "a search of an experiment that ends below the study": (
        {"experiments.imagenet_samples.attacks.fgsm_minimal": {"max_epsilon": 0.12}},
        r"'fgsm_minimal' of experiments.imagenet_samples ends at a max_epsilon of 0.12,",
    ),
    "a search that ends at its default": (
        {"attacks.fgsm_minimal": None, f"{X0}.epsilon": "64/255"},
        r"ends at a max_epsilon of 0.13, .* is 0.2510; max_epsilon must be at least 0.251,",
    ),
    "trained on the test set": (
        {"training.fashion_mnist_resnet8.dataset": "fashion_mnist_test"},
        r"training.fashion_mnist_resnet8.dataset is 'fashion_mnist_test', which has images of "
        r"'fashion_mnist_test', where the model is tested; allowed",
    ),
    "trained on all splits": (
        {"datasets.all": {"source": "fashion_mnist"}, f"{RECIPE}.dataset": "all"},
        r"dataset is 'all', which has images of 'fashion_mnist_test', where",
    ),
    "trained on what it is attacked on": (
        {"datasets.fashion_mnist_test": GONE, f"{RECIPE}.dataset": "fashion_mnist"},
        r"dataset is 'fashion_mnist', which has images of 'fashion_mnist', where",
    ),
    "trained on own images that it is attacked on": (
        {
            "datasets.own": {"loader": "imagefolder", "path": "images", "classes": 10},
            "datasets.same": {"loader": "imagefolder", "path": "images/", "classes": 10},
            f"{X0}.dataset": "same",
            f"{RECIPE}.dataset": "own",
        },
        r"dataset is 'own', which has images of 'same', where",
    ),
    "another model trained on what it judges": (
        {f"{RECIPE}_b.dataset": "fashion_mnist"},
        r"training.fashion_mnist_resnet8_b.dataset is 'fashion_mnist', which has images of",
    ),
    "no recipe": (
        {"training": {}},
        r"'fashion_mnist_resnet8' is trained .* no recipe for it under 'training'; allowed: none",
    ),
    "AutoAttack on two classes": (
        {
            "models.own": {**OWN_MODEL, "classes": 2},
            "datasets.own": {"loader": "imagefolder", "path": "images", "classes": 2},
            f"{X0}.dataset": "own",
            f"{X0}.model": "own",
            f"{R0}.controls": [],
            f"{R0}.attacks": ["fgsm", "autoattack"],
            "perturbation_spectra": GONE,
        },
        r"robustness.experiments.fashion_mnist.attacks lists 'autoattack', .* at least 4 classes, "
        r"and 'own' has 2; take it out .* 'eot_pgd' and 'square'",
    ),
    "AutoAttack for what draws on two classes": (
        {
            "models.own": {**OWN_MODEL, "classes": 2},
            "datasets.own": {"loader": "imagefolder", "path": "images", "classes": 2},
            f"{X0}.dataset": "own",
            f"{X0}.model": "own",
            f"{R0}.controls": [],
            f"{R0}.attacks": ["autoattack_rand"],
            "perturbation_spectra": GONE,
        },
        r"lists 'autoattack_rand', AutoAttack of the version 'rand', .* at least 3 classes",
    ),
    "more directions than hyperplanes": (
        {
            "defenses.towards": {"kind": "post_averaging", "sampler": "last_layer"},
            f"{R0}.controls": ["towards"],
        },
        r"defenses.towards takes the sampler 'last_layer', .* 'directions' must be from 1 to 10, "
        r"got 15",
    ),
    "JPEG of two channels": (
        {
            "models.own": {
                **OWN_MODEL,
                "shape": [2, 28, 28],
                "mean": [0.3, 0.3],
                "std": [0.35, 0.35],
            },
            "datasets.own": {"loader": "imagefolder", "path": "images", "classes": 10},
            f"{X0}.dataset": "own",
            f"{X0}.model": "own",
            f"{R0}.controls": ["jpeg"],
            f"{R0}.attacks": ["fgsm"],
            "perturbation_spectra": GONE,
        },
        r"defenses.jpeg is JPEG, which takes images of 1 or 3 channels, .*'own' have 2; take",
    ),
    "a number that is none in any reading": (
        {"robustness.error": "1e-3x"},
        r"'robustness.error' .* must be a number, got '1e-3x'",
    ),
    "a number beyond all": (
        {"robustness.error": "1e999"},
        r"'robustness.error' .* must be a finite number, got inf",
    ),
    "a fraction of steps": (
        {f"{X0}.attacks.pgd_minimal": {"steps": "1e-3"}},
        r"pgd_minimal.steps' .* must be a whole number, got '1e-3'",
    ),
    "more classes than the model": (
        {
            "datasets.own": {"loader": "imagefolder", "path": "images", "classes": 11},
            f"{X0}.dataset": "own",
        },
        r"'own' has 11 classes, but the model 'fashion_mnist_resnet8' knows 10",
    ),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_told_in_one_sentence(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        load(changes)
    text = str(caught.value)
    assert "\n" not in text
    assert "Traceback" not in text
    assert len(text) < 800


def test_the_first_of_several_mistakes_is_told_always():
    changes = {"sede": 1, "sead": 2, f"{A0}.radius": -1}
    messages = set()
    for _ in range(3):
        with pytest.raises(UserError) as caught:
            load(changes)
        messages.add(str(caught.value))
    assert len(messages) == 1


# What is right ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [("8/255", 8 / 255), (0.03, 0.03), ("0.03", 0.03), (1, 1.0), ("1/255", 1 / 255)],
)
def test_an_epsilon_is_a_number_or_a_fraction(value, expected):
    assert schema.epsilon(value, "here") == expected
    reaching = {"attacks.fgsm_minimal.max_epsilon": 1}
    assert (
        load({f"{X0}.epsilon": value, **reaching}).experiments["fashion_mnist"].epsilon == expected
    )


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", ".1e-2", "+1.0e-3", "0.01e-1"])
def test_a_number_that_yaml_takes_for_text_is_read(text):
    told = yaml.safe_load(f"value: {text}")["value"]
    assert load({"robustness.error": told}).studies["robustness"].error == 0.001


def test_such_a_number_is_read_wherever_one_is_wanted_and_nowhere_else():
    changes = {
        "robustness.factors": ["1e0", 2],
        "training.fashion_mnist_resnet8.weight_decay": "5e-4",
        "training.fashion_mnist_resnet8.checkpoints": {"early": "1e-1"},
        f"{X0}.attacks.pgd_minimal": {"steps": "4e1"},
        f"{X0}.epsilon": "2e-2",
        "datasets.own": {"loader": "imagefolder", "path": "1e3", "classes": "1e1"},
    }
    found = load(changes)
    assert found.studies["robustness"].factors == (1.0, 2.0)
    recipe = found.training["fashion_mnist_resnet8"]
    assert (recipe["weight_decay"], recipe["checkpoints"]) == (0.0005, {"early": 0.1})
    assert found.experiments["fashion_mnist"].attacks["pgd_minimal"]["steps"] == 40
    assert found.experiments["fashion_mnist"].epsilon == 0.02
    assert (found.datasets["own"].path, found.datasets["own"].classes) == ("1e3", 10)


def test_the_keywords_of_own_code_may_be_such_numbers(tmp_path):
    Path("mine.py").write_text("class Mine: pass", encoding="utf-8")
    entry = {"kind": "python", "source": "mine.py:Mine", "parameters": {"rate": "1e-3", "to": "x"}}
    found = load({"defenses.mine": entry}).defenses["mine"]
    assert found.parameters["parameters"] == {"rate": 0.001, "to": "x"}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("resnet20", "'cifar_resnet20'"),
        ("ResNet-56", "'cifar_resnet56'"),
        ("cifar10_resnet32", "'cifar_resnet32'"),
        ("resnet18", "'torchvision:resnet18'"),
        ("VGG16-BN", "'vgg16_bn' or 'torchvision:vgg16_bn'"),
        ("alexnet", "'cifar_alexnet' or 'torchvision:alexnet'"),
        ("torchvision.models.densenet121", "'torchvision:densenet121'"),
        ("efficientnet-lite0", "'efficientnet_lite0'"),
        ("LeNet5", "'lenet'"),
        ("cifar_resnet200", "'cifar_resnet20'"),
    ],
)
def test_an_architecture_is_suggested_by_what_people_call_it(given, meant):
    with pytest.raises(UserError, match=rf"models.own.architecture is '{given}'") as caught:
        load({"models.own": {**OWN_MODEL, "architecture": given}})
    told = str(caught.value).partition("(did you mean ")[2]
    assert told.startswith(meant), caught.value


def test_losses_of_autoattack_need_as_many_classes_as_settings_say():
    from bandlimit.attacks.adaptive import autoattack

    for version, names in autoattack.VERSIONS.items():
        least = max(autoattack.COMPONENTS[name] for name in names)
        assert kinds.LEAST_CLASSES[version] == least


def averaged(changes):
    """Return the first experiment as the study of post-averaging has it."""
    return load(changes).studies["bandlimiting"].experiments[0]


def test_the_embedded_configuration_is_right():
    found = load({})
    assert list(found.experiments) == ["fashion_mnist", "imagenet_samples"]
    # That of the data which stand in for the document's is scaled to them.
    assert [e.epsilon for e in found.experiments.values()] == [16 / 255, 8 / 255]
    assert [e.model for e in found.experiments.values()] == [
        "fashion_mnist_resnet8",
        "imagenet_efficientnet_lite0",
    ]
    first = found.experiment("fashion_mnist", "fashion_mnist_resnet8")
    assert first is found.experiments["fashion_mnist"]
    assert first.inputs()[0] == "clean"
    assert list(found.studies) == ["bandlimiting", "perturbation_spectra", "robustness"]
    assert not any(found.datasets[e.dataset].downloads for e in found.experiments.values())
    assert not any(found.models[e.model].downloads for e in found.experiments.values())


def test_the_configuration_is_not_changed_by_checking():
    config = changed({})
    plan_load.load(config, HOME)
    assert config == BASE


def test_defaults_are_filled_in_at_each_depth():
    found = load(
        {
            "device": GONE,
            f"{X0}.epsilon": GONE,
            "bandlimiting.epsilons": GONE,
            "bandlimiting.theory": GONE,
            A0: {"radius": 2},
            R0: None,
            "training.fashion_mnist_resnet8.momentum": GONE,
            "training.fashion_mnist_resnet8.augmentation": GONE,
        }
    )
    study = found.studies["bandlimiting"]
    experiment = study.experiments[0]
    assert (found.device, experiment.epsilon, len(study.epsilons)) == ("auto", 8 / 255, 9)
    assert (study.segments, study.figure_1_seed) == (32, 1)
    assert (study.timed_directions, study.timed_seconds) == ((6, 15, 30, 60), 6)
    assert (experiment.draws, experiment.shards, experiment.radii) == (1, 1, ())
    assert (experiment.directions, experiment.crossings, experiment.samplers) == (15, (), ())
    examination = found.studies["robustness"].experiments[0]
    assert (examination.radius, examination.directions) == (2, 15)
    assert examination.defenses == ("post_averaging",)
    assert examination.scaled == ("pgd_minimal",)
    recipe = found.training["fashion_mnist_resnet8"]
    assert recipe["momentum"] == 0.9
    assert recipe["augmentation"] == {"flip": False, "shift": 0}


def test_the_attacks_of_an_experiment_are_those_of_the_document_where_it_names_none():
    attacks = load({f"{X0}.attacks": GONE}).experiments["fashion_mnist"].attacks
    assert list(attacks) == [*kinds.DOCUMENT_ATTACKS, *kinds.FIXED]


def test_an_experiment_changes_parameters_for_itself_alone():
    found = load({f"{X0}.attacks.pgd_minimal": {"steps": 7}}).experiments.values()
    own, other = (e.attacks["pgd_minimal"] for e in found)
    assert own == {**BASE["attacks"]["pgd_minimal"], "steps": 7}
    assert other["steps"] != 7


def test_epsilons_of_attacks_are_numbers():
    changes = {"attacks.pgd.epsilons": ["2/255", 0.5], f"{X0}.attacks.pgd": None}
    attacks = load(changes).experiments["fashion_mnist"].attacks
    assert attacks["pgd"]["epsilons"] == [2 / 255, 0.5]


def test_each_setting_stands_once_with_the_draws_of_the_main_one():
    experiment = averaged(
        {
            f"{A0}.radius": 2,
            f"{A0}.directions": 15,
            f"{A0}.draws": 5,
            f"{A0}.radii": [1, 2, 4],
            f"{A0}.directions_sweep": [6, 15],
        }
    )
    swept = [(1.0, 15, 1), (2.0, 6, 1), (2.0, 15, 5), (4.0, 15, 1)]
    assert experiment.settings("clean") == experiment.settings("pgd_minimal") == swept
    radii_only = [(1.0, 15, 1), (2.0, 15, 5), (4.0, 15, 1)]
    for attack in ("fgsm_minimal", "deepfool_l2", "carlini_wagner_l2"):
        assert experiment.settings(attack) == radii_only
    for attack in ("deepfool_linf", "fgsm", "pgd"):
        assert experiment.settings(attack) == [(2.0, 15, 5)]


def test_only_some_experiments_run():
    found = load({"only": ["imagenet_samples"]})
    assert list(found.experiments) == ["imagenet_samples"]
    assert list(found.studies) == ["bandlimiting"]
    assert "fashion_mnist_resnet8" not in found.models
    order = ["imagenet_samples", "fashion_mnist"]
    assert [e.name for e in load({"only": order}).studies["bandlimiting"].experiments] == order


def test_a_study_without_a_section_does_not_run():
    others = ["bandlimiting", "perturbation_spectra"]
    assert list(load({"robustness": None}).studies) == others
    assert list(load({"robustness": GONE}).studies) == others
    assert list(load({"robustness.experiments": {}}).studies) == others
    alone = {
        "bandlimiting": None,
        "perturbation_spectra": None,
        f"{R0}.radius": 2,
        f"{R0}.directions": 3,
    }
    found = load(alone)
    assert list(found.studies) == ["robustness"] and list(found.experiments) == ["fashion_mnist"]
    assert found.studies["robustness"].experiments[0].directions == 3


def test_two_experiments_of_one_pair_may_be_written_if_one_runs():
    again = {"experiments.again": BASE["experiments"]["fashion_mnist"]}
    load(again)
    load({**again, f"{A0[:-14]}.again": {"radius": 1}, "only": ["again"]})


OWN_RUN = """
datasets:
  mine: {loader: imagefolder, path: images, classes: 10}
models:
  mine: {path: weights.th, architecture: cifar_resnet20, classes: 10, shape: [1, 28, 28],
         mean: [0.3], std: [0.35]}
experiments:
  mine: {dataset: mine, model: mine}
bandlimiting:
  experiments:
    mine: {radius: 2}
robustness:
  experiments:
    mine:
only: [mine]
"""


def test_own_images_and_weights_need_at_most_fifteen_lines(tmp_path):
    assert len(OWN_RUN.strip().splitlines()) <= 15
    (tmp_path / "mine.yaml").write_text(OWN_RUN, encoding="utf-8")
    config = overlays.read([HOME / "config.yaml", tmp_path / "mine.yaml"])
    found = plan_load.load(config, HOME)
    assert list(found.experiments) == ["mine"] and list(found.models) == ["mine"]
    assert list(found.studies) == ["bandlimiting", "robustness"]


TWICE = {
    "at the top": ("seed: 1\ndevice: cpu\nseed: 2\n", r"'seed' is written in line 1 .* 3"),
    "deep": ("a:\n  b:\n    c: 1\n    c: 2\n", r"'c' is written in line 3 and in line 4"),
    "in a list": ("a:\n  - {b: 1, b: 2}\n", r"'b' is written in line 2 and in line 2"),
    "a section": ("robustness: {}\nbandlimiting: {}\nrobustness: {}\n", r"'robustness' is"),
}


@pytest.mark.parametrize(("text", "message"), TWICE.values(), ids=TWICE)
def test_a_key_that_is_written_twice_is_refused(tmp_path, text, message):
    (tmp_path / "twice.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"twice.yaml' .*{message}"):
        overlays.read([tmp_path / "twice.yaml"])


UNREADABLE = {
    "an alias in its anchor": (b"defenses: &a {mine: *a}", r"an alias '\*' stands inside"),
    "an alias in its list": (b"only: &a [*a]", r"an alias '\*' stands inside"),
    "no such date": (b"seed: 2020-13-45", r"month must be in 1..12"),
    "no text": (b"seed: \xff\xfe", r"must be YAML in UTF-8"),
    "a list": (b"- a", r"must be a mapping of keys to values, got list"),
}


@pytest.mark.parametrize(("text", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_means_nothing_is_told(tmp_path, text, message):
    (tmp_path / "odd.yaml").write_bytes(text)
    with pytest.raises(UserError, match=f"odd.yaml' .*{message}"):
        overlays.read([tmp_path / "odd.yaml"])


def test_anchors_and_merged_mappings_are_no_keys_twice(tmp_path):
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n"
    (tmp_path / "anchors.yaml").write_text(text, encoding="utf-8")
    found = overlays.read([tmp_path / "anchors.yaml"])
    assert found == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


def test_the_size_of_a_dataset_is_known_from_the_registry_or_the_subset():
    own = {"loader": "imagefolder", "path": "images", "classes": 10}
    datasets = load(
        {
            "datasets.own": own,
            "datasets.own_subset": {**own, "images": 4},
            "datasets.whole": {"source": "mnist"},
            "datasets.split": {"source": "mnist", "split": "test"},
            "datasets.subset": {"source": "mnist", "split": "test", "images": 300},
        }
    ).datasets
    found = [datasets[name].size for name in ("own", "own_subset", "whole", "split", "subset")]
    assert found == [None, 4, 70_000, 10_000, 300]


def test_shards_are_named():
    assert load({}).experiments["fashion_mnist"].shard_names() == ["1of1"]
    names = load({f"{X0}.shards": 3}).experiments["fashion_mnist"].shard_names()
    assert names == ["1of3", "2of3", "3of3"]


def test_own_data_needs_no_registry():
    study = load(
        {
            "datasets.own": {"loader": "imagefolder", "path": "images", "classes": 10, "images": 4},
            "models.own": OWN_MODEL,
            f"{X0}.dataset": "own",
            f"{X0}.model": "own",
            f"{R0}.images": 4,
        }
    )
    dataset, model = study.datasets["own"], study.models["own"]
    assert (dataset.source, dataset.loader, dataset.path) == ("own", "imagefolder", "images")
    # Its images are as the model takes them.
    assert (dataset.classes, dataset.images, dataset.shape) == (10, 4, (1, 28, 28))
    assert (model.source, model.shape, model.mean) == ("file", (1, 28, 28), (0.3,))
    assert not dataset.downloads
    assert not model.downloads
    assert run.missing_paths(study, own=True) == []


def test_a_local_path_that_is_not_there_is_told_before_a_run():
    study = load(
        {
            "datasets.own": {"loader": "imagefolder", "path": "imgaes", "classes": 10},
            f"{X0}.dataset": "own",
        }
    )
    with pytest.raises(UserError, match="datasets.own.path must be an existing .* got 'imgaes'"):
        run.check_paths(study)


def test_a_gate_is_checked_on_a_whole_dataset_only():
    gate = {"gate_dataset": "fashion_mnist_test", "gate_accuracy": 0.9, "gate_tolerance": 0.01}
    study = load({"models.own": {**OWN_MODEL, **gate}, f"{X0}.model": "own"})
    assert study.gates("own") == ["fashion_mnist_test"]
    assert study.gate("fashion_mnist_test", "own") == (0.9, 0.01)
    assert study.gate("fashion_mnist", "own") is None
    study = load(
        {
            "models.own": {**OWN_MODEL, **gate},
            f"{X0}.model": "own",
            "datasets.fashion_mnist_test.images": 100,
        }
    )
    assert study.gates("own") == []
    assert study.gate("fashion_mnist_test", "own") is None


CIFAR = {"source": "cifar10", "split": "test"}
GATES = {
    "of any name": ({"whole": CIFAR}, ["whole"]),
    "the first of several": ({"a": {**CIFAR, "images": 9}, "c": CIFAR, "b": CIFAR}, ["c"]),
    "another split": ({"cifar10_test": {"source": "cifar10", "split": "train"}}, []),
    "another source": ({"cifar10_test": {"source": "mnist", "split": "test"}}, []),
    "a subset": ({"cifar10_test": {**CIFAR, "images": 10_000}}, []),
    "all splits": ({"cifar10_test": {"source": "cifar10"}}, []),
    "own data": (
        {"cifar10_test": {"loader": "imagefolder", "path": "images", "classes": 10}},
        [],
    ),
}


@pytest.mark.parametrize(("entries", "gates"), GATES.values(), ids=GATES)
def test_a_gate_goes_by_what_a_dataset_is(entries, gates):

    other = {f"datasets.{name}": entry for name, entry in entries.items()}
    experiment = {
        "dataset": next(iter(entries)),
        "model": "cifar10_resnet20",
        "attacks": {"pgd_minimal": None},
    }
    if entries.get("cifar10_test", {}).get("source") == "mnist":
        experiment["dataset"] = "some"
        other["datasets.some"] = {**CIFAR, "images": 5}
    other |= {"experiments.cifar10": experiment, "only": ["cifar10"]}
    study = load({**other, "bandlimiting.experiments.cifar10": {"radius": 6}})
    assert study.gates("cifar10_resnet20") == gates
    for name in entries:
        expected = (0.9173, 0.001) if name in gates else None
        assert study.gate(name, "cifar10_resnet20") == expected


@pytest.mark.parametrize(
    ("changes", "gates"),
    [({}, ["mine"]), ({"split": "val"}, ["mine"]), ({"images": 9}, []), ({"resize": 300}, [])],
)
def test_the_gate_of_a_source_needs_all_of_it_as_published(changes, gates):
    """That the folder has all of its images is checked when it is read."""
    entry = {"source": "imagenet_val", "path": "images", **changes}
    study = load({"datasets.mine": entry, "experiments.imagenet_samples.model": "imagenet_vgg16"})
    assert study.gates("imagenet_vgg16") == gates


@pytest.mark.parametrize(
    ("source", "split", "gates"),
    [
        ("cifar10", "test", {"cifar10_test"}),
        ("cifar10", "train", {"cifar10_train"}),
        # Both splits are neither, but all of the source.
        ("cifar10", None, {"cifar10"}),
        ("imagenet_val", None, {"imagenet_val", "imagenet_val_val"}),
    ],
)
def test_a_dataset_means_its_split_or_all_of_its_source(source, split, gates):
    entry = {"source": source, **({"split": split} if split else {})}
    entry |= {"path": "images"} if source == "imagenet_val" else {}
    dataset = load({"datasets.mine": entry}).datasets["mine"]
    named = ("cifar10", "cifar10_test", "cifar10_train", "imagenet_val", "imagenet_val_val")
    assert {gate for gate in named if dataset.means(gate)} == gates


def test_own_data_gates_ones_own_model_by_its_name():
    own = {"loader": "imagefolder", "path": "images", "classes": 10}
    gate = {"gate_dataset": "mine", "gate_accuracy": 0.5}
    models = {"models.gated": {**OWN_MODEL, **gate}, "models.free": OWN_MODEL}
    study = load({"datasets.mine": own, **models})
    assert (study.gates("gated"), study.gates("free")) == (["mine"], [])
    assert load({"datasets.mine": {**own, "images": 5}, **models}).gates("gated") == []


def test_a_model_may_be_trained_on_another_split_or_source():
    study = load({"datasets.fashion_mnist_train.images": 500})
    assert study.gates("fashion_mnist_resnet8") == ["fashion_mnist_test"]
    load(
        {
            "datasets.own": {"loader": "imagefolder", "path": "images", "classes": 10},
            f"{RECIPE}.dataset": "own",
        }
    )


def test_a_low_pass_is_refused_only_where_it_changes_nothing():
    load({"defenses.low_pass.cutoff": 19.79})
    unused = {"kind": "low_pass", "cutoff": 900}
    assert load({"defenses.unused": unused}).defenses["unused"].parameters


def test_smoothed_kernels_are_attacked_where_an_attack_names_them():
    soft = {"kind": "smoothed_kernels", "rho": 1}
    listed = {"defenses": ["soft"], "attacks": ["through"], "controls": ["soft"]}
    attack = {"kind": "eot_pgd", "against": ["soft"], "loss": "margin", "samples": None}
    study = load({"defenses.soft": soft, R0: listed, "robustness.attacks.through": attack})
    examined = study.studies["robustness"]
    (examination,) = examined.experiments
    assert examined.sets(examination) == [("soft", "through"), ("soft", "through_larger")]
    assert examined.defenses["soft"].parameters == {"rho": 1} and not study.defenses["soft"].random


def test_the_default_reach_of_the_search_is_that_of_the_attack():
    from bandlimit.attacks.minimal import FGSMMinimal

    assert FGSMMinimal().max_epsilon == kinds.MAX_EPSILON


def test_a_search_may_end_at_the_largest_bound():
    bounds = {f"{X0}.epsilon": 0.1, "bandlimiting.epsilons": [0.05]}
    load({**bounds, "attacks.fgsm_minimal.max_epsilon": 0.1})


def test_a_checksum_may_have_capitals():
    study = load({"models.own": {**OWN_MODEL, "sha256": "AB" * 32}})
    assert study.models["own"].sha256 == "ab" * 32


@pytest.mark.parametrize(
    ("name", "allowed", "nearest"),
    [
        ("cifar10_resnet21", ["cifar10_resnet20", "cifar10_resnet32"], "cifar10_resnet20"),
        ("cifar10_resnet31", ["cifar10_resnet20", "cifar10_resnet32"], "cifar10_resnet32"),
        ("tset", ["test", "train"], "test"),
        ("nil", ["nll", "margin"], "nll"),
        ("gpu", ["auto", "cpu", "cuda"], None),
        ("anything", [], None),
    ],
)
def test_the_nearest_name_is_suggested(name, allowed, nearest):
    hint = "" if nearest is None else f" (did you mean {nearest!r}?)"
    names = ", ".join(map(repr, sorted(allowed))) or "none"
    assert suggest(name, allowed) == f"allowed: {names}{hint}"


def test_models_are_those_in_use_and_the_users_own():
    # A checkpoint of a model that is trained is a model of its own.
    trained = {"fashion_mnist_resnet8", "fashion_mnist_resnet8_b"}
    kept = {"fashion_mnist_resnet8_initial", "fashion_mnist_resnet8_one_epoch"}
    without = {"perturbation_spectra": None}
    study = load({"models.own": OWN_MODEL, **without})
    assert set(study.models) == {*trained, *kept, "imagenet_efficientnet_lite0", "own"}
    study = load({R0: {"defenses": ["low_pass"], "attacks": [], "controls": []}, **without})
    assert set(study.models) == {"fashion_mnist_resnet8", *kept, "imagenet_efficientnet_lite0"}


def merged(base, overlay):
    """Return what Snakemake makes of a configuration and an overlay: mappings merge, lists not."""
    result = dict(base)
    for key, value in overlay.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[key] = merged(old, value) if both else value
    return result


@pytest.mark.parametrize("path", sorted((HOME / "config").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_overlays_are_right(tmp_path, path):
    overlay = yaml.safe_load(path.read_text(encoding="utf-8"))
    for model in overlay.get("models", {}).values():
        file = tmp_path / model["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    base = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))
    study = plan_load.load(merged(base, overlay), HOME)
    assert list(study.experiments) == overlay.get("only", list(base["experiments"]))


# The registries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["datasets", "models"])
def test_a_malformed_registry_is_told(tmp_path, name):
    workflow = tmp_path / "workflow"
    for folder in ("schemas", "registry"):
        (workflow / folder).mkdir(parents=True)
        for path in (HOME / "workflow" / folder).iterdir():
            (workflow / folder / path.name).write_bytes(path.read_bytes())
    plan_load.load(BASE, tmp_path)
    path = workflow / f"registry/{name}.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("licence", "license", 1), encoding="utf-8")
    with pytest.raises(UserError, match=rf"registry/{name}.csv.*license|license.*{name}.csv"):
        plan_load.load(BASE, tmp_path)


def test_every_key_of_the_schemas_is_described():
    def undescribed(schema, place):
        for key, part in schema.get("properties", {}).items():
            if "$ref" not in part and key not in ("deepfool_l2", "deepfool_linf"):
                if "description" not in part:
                    yield f"{place}.{key}"
                yield from undescribed(part, f"{place}.{key}")
        for key, part in schema.get("$defs", {}).items():
            yield from undescribed(part, key)

    for path in sorted((HOME / "workflow/schemas").iterdir()):
        assert list(undescribed(schema.read_schema(path), path.stem)) == []


def test_every_pattern_of_the_schemas_is_in_words_too():
    def wordless(schema, place):
        if isinstance(schema, dict):
            if isinstance(schema.get("pattern"), str) and "$comment" not in schema:
                yield place
            for key, part in schema.items():
                yield from wordless(part, f"{place}.{key}")

    for path in sorted((HOME / "workflow/schemas").iterdir()):
        assert list(wordless(schema.read_schema(path), path.stem)) == []


def test_every_mapping_of_the_schemas_refuses_unknown_keys():
    def open_mappings(schema, place):
        if isinstance(schema, dict):
            if "properties" in schema and schema.get("additionalProperties") is not False:
                yield place
            for key, part in schema.items():
                yield from open_mappings(part, f"{place}.{key}")

    for path in sorted((HOME / "workflow/schemas").iterdir()):
        assert list(open_mappings(schema.read_schema(path), path.stem)) == []


def test_the_schema_and_the_library_name_the_same_attacks():
    found = schema.read_schema(HOME / "workflow/schemas/config.schema.yaml")
    assert set(found["$defs"]["attacks"]["properties"]) == set(kinds.ATTACKS)


def test_checking_imports_nothing_heavy():
    """Every start of the workflow pays for what these modules import."""
    heavy = "{'torch', 'torchvision', 'foolbox', 'pyarrow', 'pandas', 'seaborn', 'numpy'}"
    code = (
        "import sys; import bandlimit.plan.load, bandlimit.plan.jobs, bandlimit.keys; "
        f"sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_keys_follow_the_files_not_the_order_in_which_snakemake_merges_them(tmp_path):
    from snakemake.utils import update_config

    texts = {
        "config.yaml": "attacks: {fgsm: , pgd: , deepfool: {steps: 3, candidates: 2}}\nseed: 1\n",
        "overlay.yaml": "seed: 2\nattacks: {own: , deepfool: {candidates: 4}, pgd: {steps: 9}}\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    wanted = overlays.read([tmp_path / name for name in texts])
    # As Snakemake does: what the command line names, then the workflow's own file, then the former.
    merged = overlays.read([tmp_path / "overlay.yaml"])
    for name in texts:
        update_config(merged, overlays.read([tmp_path / name]))
    assert merged == wanted and str(merged) != str(wanted)
    assert str(overlays.in_order(merged, wanted)) == str(wanted)
    assert list(wanted["attacks"]) == ["fgsm", "pgd", "deepfool", "own"]
