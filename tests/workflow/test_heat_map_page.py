"""A heat map of one's own network, by the lines of docs/heat_maps.md."""

import re
import shutil

import yaml
from conftest import HOME, MODEL

from bandlimit.files import contents, store
from bandlimit.plan import load
from bandlimit.provenance.samples import sample

PAGE = (HOME / "docs/heat_maps.md").read_text(encoding="utf-8")
RECORDS = "results/sensitivity/my_images/my_network/1of1.parquet"


def test_the_lines_of_the_page_make_a_heat_map_that_the_audit_makes_again(project):
    (lines,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    (command,) = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    config = yaml.safe_load(lines)
    # The same, of images and networks that are there.
    for network, weights in (("my_network", "a"), ("my_other_network", "b")):
        assert config["models"][network].keys() == {"path", *MODEL}
        config["models"][network] |= MODEL
        shutil.copy(
            project.folder / f"weights/{weights}.th",
            project.folder / config["models"][network]["path"],
        )
    (project.folder / "own images").rename(project.folder / config["datasets"]["my_images"]["path"])
    config["datasets"]["my_images"]["images"] = 6
    own = config["frequency_principle"]["experiments"]["mine"]
    own |= {"stride": 4, "norms": [2]}
    config["device"] = "cpu"

    *start, target = command.split()
    assert start == ["snakemake", "--configfile", "mine.yaml", "--cores", "all"]
    project.complete(target, config=config)

    tables = project.folder / "results/tables/frequency_principle"
    rows = store.read(tables / "heat_maps.parquet").to_pandas().query("region == 'all'")
    assert rows["network"].tolist() == ["my_network", "my_other_network"] * 2
    assert rows["norm"].tolist() == [2, 2, 4, 4] and (rows["images"] == 6).all()
    folder = project.folder / "results/figures/frequency_principle"
    assert {path.suffix for path in folder.iterdir()} == {".png", ".pdf", ".svg"}

    proof = contents.certificate(project.folder / RECORDS)
    given = {"results": project.folder / "results", "home": project.folder}
    (found,) = sample(proof, images=2, seed=0, **given)
    # 2 images, 2 norms, 2 networks.
    assert found.detail.startswith("equal, 8 rows"), found
    path = project.folder / RECORDS
    table = store.read(path)
    place = table.column_names.index("clean")
    flipped = [not value for value in table["clean"].to_pylist()]
    store.write(path, table.set_column(place, table.schema.field("clean"), [flipped]), proof)
    (found,) = sample(proof, images=2, seed=0, **given)
    assert "column 'clean'" in found.detail


def test_the_page_names_the_defaults():
    config = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))
    config["frequency_principle"]["experiments"] = {"fashion_mnist_small": {}}
    (e,) = load.load(config, HOME).studies["frequency_principle"].experiments
    assert f"| {e.norm:g}, which moves a pixel of 32 x 32 by {e.norm / 32:g} |" in PAGE
    assert e.stride == 1 and "| 1, all |" in PAGE
