# The frequency view of neural networks: every table and figure from records, every record from
# images, weights and code. Grammar of the output paths, each part a closed set from the config:
#
#   results/models/{model}.safetensors                                  weights, verified
#   results/datasets/{dataset}.parquet                                  images
#   results/adversarial/{dataset}/{model}/{attack}/{shard}.parquet      a row per image (and epsilon)
#   results/evaluations/{dataset}/{model}/{inputs}/{defense}/{shard}.parquet
#   results/defense_attacks/{dataset}/{model}/{defense}/{defense_attack}/{shard}.parquet
#   results/judgements/{dataset}/{model}/{defense}/{shard}.parquet      the defence on all of these
#   results/controls, scalings, crossings, symptoms, theory             more records of the studies
#   results/tables/{study}/{table}.parquet|.md|.html|.tex|.csv          from records only
#   results/figures/{study}/{figure}.png|.pdf|.svg                      from tables only
#   results/defenses/{defense}.html|.md                                 whether it holds, from tables
#   results/claims/claims.parquet|.md|.html                             the verdicts, from tables
#   results/index.html, site                                            claims, artifacts and lineage
#   results/report.rst                                                  front page of the report
#   results/provenance/manifest.json, ro-crate, ro-crate.zip            the proof, from all of these
#
# {inputs}: 'clean' or an attack; {defense_attack}: an attack that knows {defense}; {shard}: '2of8'.
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")

sys.path[:0] = [workflow.basedir, f"{workflow.basedir}/workflow"]
import helpers

from bandlimit.config import paths
from bandlimit.plan import catalogue, jobs

helpers.check_folder(workflow)


configfile: "config.yaml"


# Where jobs run in an image: `--software-deployment-method apptainer`. See envs/bandlimit.def.
container: "envs/bandlimit.sif"


# What a run has found, where there was one.
front = Path("results/report.rst").absolute()


report: str(front) if front.is_file() else "workflow/report/workflow.rst"


run = helpers.load_run(config, workflow)
entries = catalogue.of(run)
config["given"] = helpers.configuration(workflow)
code = helpers.code_of(workflow.basedir)
if workflow.is_main_process:
    alive = helpers.release_stale_lock()


wildcard_constraints:
    **helpers.closed_sets(run),


onstart:
    helpers.end_of_idle_looks(workflow)
    helpers.check_last(workflow, config["given"])
    helpers.check_ready(run, local=workflow.local_exec)
    helpers.remember(workflow, config["given"])


include: "workflow/rules/models.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/attacks.smk"
include: "workflow/rules/evaluations.smk"


for name in helpers.rules_of_studies(run, workflow.basedir):

    include: name


include: "workflow/rules/artifacts.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/provenance.smk"


rule all:
    default_target: True
    input:
        jobs.site_artifacts(run),
        catalogue.pages(run),
        rules.claims.input,
        rules.provenance.input,
