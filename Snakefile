"""LiST, from images to figures. The config says what is computed, the rules say how."""

from snakemake.utils import min_version

min_version("9.8")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/attack.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/messages.smk"


localrules:
    all,
    measure,
    falsify,
    page_provenance,


rule all:
    default_target: True
    input:
        rules.tabulate.output,
        rules.claims.output,
        FIGURE_FILES,
        rules.summarise.output,
        PAGE_FILES,


# The LiST runs without attack and figures, for `lipscale compare`.
rule measure:
    input:
        [f"{folder}/{name}" for folder in folders_of("feedback") for name in ("calibration.json", "radii.csv")],


# Attacks on the certificates of every network that has some, each image at its own radius.
rule falsify:
    input:
        rules.tabulate_falsifications.output,
