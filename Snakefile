"""LiST, from images to figures. What is computed is said by the config; how, by the rules."""

from snakemake.utils import min_version

min_version("9.8")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/pages.smk"


localrules:
    all,
    measure,
    audit,
    page_provenance,


rule all:
    default_target: True
    input:
        rules.draw_figure1.output,
        rules.draw_figure2.output,
        rules.draw_figure3.output,
        rules.draw_reliability.output,
        rules.draw_certified.output,
        rules.draw_sheets.output,
        rules.judge.output,
        rules.page_runs.output,
        rules.page_claims.output,
        rules.page_provenance.output,


# The LiST runs without attack and figures, for `python -m lipscale compare`.
rule measure:
    input:
        expand("{folder}/{name}", folder=LIST_FOLDERS, name=["calibration.json", "radii.csv"]),


# Attacks that the certificates have to withstand, of every network that has some.
rule audit:
    input:
        rules.tabulate_audits.output,
