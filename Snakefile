# The frequency view of neural networks: every table and figure from records, every record from
# images, weights and code. Grammar of the output paths, each part a closed set from the config:
#
#   results/models/{model}.safetensors                                  weights, verified
#   results/datasets/{dataset}.parquet                                  images
#   results/adversarial/{dataset}/{model}/{attack}/{shard}.parquet      a row per image (and epsilon)
#   results/evaluations/{dataset}/{model}/{inputs}/{defense}/{shard}.parquet
#   results/adaptive/{dataset}/{model}/{examined}/{adaptive}/{shard}.parquet
#   results/judged/{dataset}/{model}/{examined}/{shard}.parquet         the defence on all of these
#   results/tables/{study}/{table}.parquet|.md|.tex|.csv                from records only
#   results/figures/{study}/{figure}.png|.pdf|.svg                      from tables only
#   results/claims/claims.parquet|.md|.html                             the verdicts, from tables
#   results/index.html, site                                            claims, artifacts and lineage
#   results/provenance/manifest.json, ro-crate, ro-crate.zip            the proof, from all of these
#
# {inputs}: 'clean' or an attack; {examined}: a defence that {adaptive} knows; {shard}: '1of1', '2of8'.
import sys

from snakemake.utils import min_version

min_version("9.27")

sys.path[:0] = [workflow.basedir, f"{workflow.basedir}/workflow"]
import helpers

from bandlimit import jobs


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


study = helpers.load_settings(config, workflow.basedir)
config["given"] = helpers.configuration(workflow)
code = helpers.code_of(workflow.basedir)
if workflow.is_main_process:
    alive = helpers.release_stale_lock()


wildcard_constraints:
    **helpers.closed_sets(study),


onstart:
    helpers.check_ready(study, local=workflow.local_exec)


include: "workflow/rules/models.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/attacks.smk"
include: "workflow/rules/defenses.smk"
include: "workflow/rules/bandlimiting.smk"
include: "workflow/rules/robustness.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/provenance.smk"


rule all:
    default_target: True
    input:
        rules.bandlimiting.input,
        rules.robustness.input,
        rules.claims.input,
        rules.provenance.input,
