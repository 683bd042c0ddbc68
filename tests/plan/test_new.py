import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from bandlimit import cli
from bandlimit.config import overlays
from bandlimit.data import make
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.models import architectures
from bandlimit.plan import load, new

HOME = Path(__file__).parents[2]
SHARED = HOME.parent / "shared" / "data"


def save_weights(path, *, name="cifar_resnet20", classes=3, channels=1, prefix=""):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = architectures.build(name, classes=classes, channels=channels).state_dict()
    torch.save({prefix + key: value for key, value in state.items()}, path)


def save_images(folder, classes=("bag", "boot", "coat"), *, size=(12, 12), mode="L", count=3):
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng([label, number]).integers(
                0, 256, (*size[::-1], *((3,) if mode == "RGB" else ())), dtype=np.uint8
            )
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a folder with the configuration of the project, some images and weights for them."""
    for name in ("config.yaml", "workflow"):
        (tmp_path / name).symlink_to(HOME / name)
    monkeypatch.chdir(tmp_path)
    save_images(tmp_path / "photos")
    save_weights(tmp_path / "net.pth")
    return tmp_path


def command(*more, name="mine", images="photos", weights="net.pth"):
    return cli.main(["new", name, "--images", images, "--weights", weights, *more])


def refused(capsys, *parts, **given):
    more = given.pop("more", ())
    assert command(*more, **given) == 1
    told = capsys.readouterr().err
    assert told.startswith("Error: ")
    for part in parts:
        assert part in told
    assert not os.path.exists("config/mine.yaml")


def written(path="config/mine.yaml"):
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def test_a_folder_and_weights_give_a_configuration_that_loads(project, capsys):
    assert command() == 0
    told = capsys.readouterr().out
    assert "9 images of 3 classes, read as 1 x 12 x 12" in told
    assert "cifar_resnet20, 3 classes, 1 channel" in told
    assert "of 9 images correctly" in told
    assert "snakemake --configfile config/mine.yaml --cores all" in told
    run = load.load(overlays.read(["config.yaml", "config/mine.yaml"]), ".")
    assert list(run.experiments) == ["mine"]
    model = run.models["mine_network"]
    assert (model.architecture, model.classes, model.shape) == ("cifar_resnet20", 3, (1, 12, 12))
    assert model.sha256 == store.sha256("net.pth")
    assert {study: len(found.experiments) for study, found in run.studies.items()} == {
        "bandlimiting": 1,
        "robustness": 1,
    }


def test_the_file_has_at_most_15_lines_that_are_no_comments(project):
    save_images(project / "many", size=(40, 36), mode="RGB", count=4)
    save_images(project / "many/more", ["x"], size=(30, 30), mode="RGB")
    os.rename("many/more/x", "many/dress")
    os.rmdir("many/more")
    save_weights(project / "net.pth", classes=4, channels=3)
    assert command("--images-per-run", "5", images="many") == 0
    lines = Path("config/mine.yaml").read_text(encoding="utf-8").splitlines()
    assert sum(not line.strip().startswith("#") for line in lines) <= 15
    assert written()["datasets"]["mine_images"] == {
        "loader": "imagefolder",
        "path": "many",
        "classes": 4,
        "images": 5,
        # They were of two sizes.
        "resize": 32,
        "crop": 32,
    }


def test_a_file_is_overwritten_by_force_alone(project, capsys):
    Path("config").mkdir()
    Path("config/mine.yaml").write_text("seed: 1\n", encoding="utf-8")
    assert command() == 1
    assert "--force" in capsys.readouterr().err
    assert written() == {"seed": 1}
    assert command("--out", "other/mine.yaml") == 0
    assert command("--force") == 0
    assert written() == written("other/mine.yaml")


def test_names_do_not_clash_with_those_of_the_configuration(project, capsys):
    assert command(name="fashion_mnist") == 0
    assert "yours is 'fashion_mnist_2'" in capsys.readouterr().out
    assert written("config/fashion_mnist.yaml")["only"] == ["fashion_mnist_2"]


def test_mean_and_std_are_given_or_guessed(project):
    assert command() == 0
    measured = written()["models"]["mine_network"]
    pixels = np.stack([np.asarray(Image.open(path)) / 255 for path in Path("photos").rglob("*.*")])
    assert measured["mean"] == pytest.approx([pixels.mean()], abs=1e-4)
    assert measured["std"] == pytest.approx([pixels.std()], abs=1e-4)
    assert "a guess, measured" in Path("config/mine.yaml").read_text(encoding="utf-8")
    assert command("--force", "--mean", "0.25", "--std", "0.5") == 0
    given = written()["models"]["mine_network"]
    assert (given["mean"], given["std"]) == ([0.25], [0.5])


def test_the_radius_moves_a_pixel_as_far_as_the_documents():
    cifar, _ = new._radius((3, 32, 32), [0.229, 0.224, 0.225])
    imagenet, _ = new._radius((3, 224, 224), [0.229, 0.224, 0.225])
    assert (cifar, imagenet) == (6, 30)


def test_a_parquet_file_is_taken_and_of_its_splits_the_test(project):
    images = np.random.default_rng(1).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
    table = make.table(
        [f"i{n}" for n in range(6)], [0, 1, 2] * 2, ["train"] * 3 + ["test"] * 3, images
    )
    store.write("own.parquet", table)
    assert command(images="own.parquet") == 0
    entry = written()["datasets"]["mine_images"]
    assert (entry["loader"], entry["split"]) == ("parquet", "test")


def test_a_parquet_file_of_encoded_pictures_is_taken(project):
    paths = sorted(Path("photos").rglob("*.png"))
    rows = {
        "image": [{"bytes": p.read_bytes(), "path": p.name} for p in paths],
        "label": [0, 1, 2] * 3,
    }
    pq.write_table(pa.table(rows), "own.parquet")
    assert command(images="own.parquet") == 0
    entry = written()["datasets"]["mine_images"]
    assert entry == {"loader": "parquet", "path": "own.parquet", "classes": 3}
    assert written()["models"]["mine_network"]["shape"] == [1, 12, 12]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"name": "Mine"}, ["lower-case letters", "'Mine'"]),
        ({"images": "none"}, ["existing folder", "'none'"]),
        ({"weights": "none.pth"}, ["'none.pth' does not exist"]),
        ({"more": ["--classes", "4"]}, ["--classes is 4", "has 3 classes"]),
        ({"more": ["--mean", "0.5"]}, ["both, or neither"]),
        ({"more": ["--mean", "120", "--std", "60"]}, ["pixels in [0, 1]", "divide"]),
        ({"more": ["--architecture", "cifar_resnet2"]}, ["did you mean 'cifar_resnet20'"]),
        ({"more": ["--architecture", "cifar_resnet32"]}, ["another architecture", "layer1.3"]),
        ({"more": ["--images-per-run", "10"]}, ["from 1 to 9, got 10"]),
    ],
)
def test_what_cant_be_used_is_told(project, capsys, options, parts):
    refused(capsys, *parts, **options)


def test_weights_that_fit_no_architecture_are_told_the_nearest(project, capsys):
    state = torch.load("net.pth", weights_only=True)
    del state["layer2.0.conv1.weight"]
    torch.save(state, "net.pth")
    refused(capsys, "the nearest is 'cifar_resnet20'", "'layer2.0.conv1.weight'", "'vgg16'")


@pytest.mark.parametrize("options", [(), ("--architecture", "cifar_resnet20")])
def test_weights_in_a_wrapper_are_those_of_the_network_within(project, capsys, options):
    save_weights(project / "net.pth", prefix="model.")
    assert command(*options) == 0
    assert "cifar_resnet20, 3 classes, 1 channel" in capsys.readouterr().out


def test_weights_that_would_run_code_are_refused(project, capsys):
    Path("net.pth").write_bytes(pickle.dumps({"a": os.getcwd}))
    refused(capsys, "would run code")


def test_more_class_folders_than_classes_are_refused(project, capsys):
    save_images(project / "photos", ["dress"])
    refused(capsys, "4 class folders", "the label 3")


def test_an_empty_class_folder_is_refused(project, capsys):
    for path in Path("photos/coat").glob("*.png"):
        path.unlink()
    refused(capsys, "photos/coat", "has no image")


def test_folders_of_splits_are_refused(project, capsys):
    save_images(project / "split/train")
    save_images(project / "split/test")
    refused(capsys, "are splits", "--images split/test", images="split")


def test_an_image_that_cant_be_read_is_refused(project, capsys):
    Path("photos/boot/0.png").write_bytes(Path("photos/boot/0.png").read_bytes()[:80])
    refused(capsys, "photos/boot/0.png", "can't be read")


@pytest.mark.parametrize(
    ("channels", "mode", "note"),
    [
        (3, "L", "9 of 9 pictures that were looked at are gray; all are read in colour"),
        (1, "RGB", "9 of 9 pictures that were looked at are in colour; all are read as gray"),
    ],
)
def test_pictures_are_read_as_the_network_takes_them(project, capsys, channels, mode, note):
    save_weights(project / "net.pth", channels=channels)
    save_images(project / "other", mode=mode)
    assert command(images="other") == 0
    told = capsys.readouterr().out
    assert f"read as {channels} x 12 x 12" in told
    assert note in told


def test_tensors_of_other_channels_are_refused(project, capsys):
    images = np.zeros((6, 1, 8, 8), np.uint8)
    rows = make.table([f"i{n}" for n in range(6)], [0, 1, 2] * 2, ["test"] * 6, images)
    store.write("own.parquet", rows)
    save_weights(project / "net.pth", channels=3)
    refused(capsys, "1 channel", "takes 3", images="own.parquet")


def test_numbered_folders_whose_order_as_text_is_another_are_refused(project, capsys):
    save_images(project / "numbers", ["1", "2", "10"])
    refused(capsys, "'10' comes before '2'", "classes.csv", images="numbers")
    (project / "numbers/classes.csv").write_text("wnid,label\n1,0\n2,1\n10,2\n")
    assert command(images="numbers") == 0
    assert "Labels are those of its classes.csv." in Path("config/mine.yaml").read_text()


def test_wnids_are_those_of_imagenet_for_a_network_of_1000_classes(project, capsys):
    save_weights(project / "net.pth", classes=1000)
    save_images(project / "nouns", ["n01443537", "n15075141"])
    assert command(images="nouns") == 0
    assert "their labels are ImageNet's" in capsys.readouterr().out
    assert written()["datasets"]["mine_images"]["classes"] == 1000
    assert "the wnids of ImageNet." in Path("config/mine.yaml").read_text(encoding="utf-8")


def test_fewer_class_folders_than_classes_are_refused(project, capsys):
    save_weights(project / "net.pth", classes=4)
    refused(capsys, "has 3 class folders, where 4 are needed", "classes.csv")


def test_a_path_that_is_no_utf_8_is_refused(project):
    os.rename(b"photos", b"ph\xf6tos")
    with pytest.raises(UserError, match=r"'ph\\udcf6tos' is not UTF-8"):
        new.write("mine", images=os.fsdecode(b"ph\xf6tos"), weights_path="net.pth")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images beside the repository are absent")
def test_real_images_and_weights_are_recognised_and_a_wrong_normalisation_is_seen(project, capsys):
    for source in sorted((SHARED / "cifar10").iterdir()):
        (project / "real" / source.name).mkdir(parents=True)
        for path in sorted(source.iterdir())[:4]:
            (project / "real" / source.name / path.name).symlink_to(path)
    weights = str(SHARED / "weights/resnet20-12fca82f.th")
    assert command(images="real", weights=weights) == 0
    told = capsys.readouterr().out
    assert "classifies 40 of 40" in told
    assert written()["models"]["mine_network"]["mean"] == [0.485, 0.456, 0.406]
    wrong = ["--mean", "0", "0", "0", "--std", "1", "1", "1", "--force"]
    assert command(*wrong, images="real", weights=weights) == 0
    assert "With the mean and std of ImageNet it would be 40" in capsys.readouterr().out


def test_elsewhere_than_in_the_workflow_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no config\.yaml here; the command runs in the folder"):
        new.write("mine", images="images", weights_path="net.pth")


def test_a_folder_is_no_file_to_write(project):
    Path("out").mkdir()
    with pytest.raises(UserError, match=r"--out must name a file to write, got the folder 'out'"):
        new.write("mine", images="images", weights_path="net.pth", out="out", force=True)
