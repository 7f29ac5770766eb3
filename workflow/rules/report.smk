"""Figures, run summaries and pages, and how the report shows them. A figure is found by its file."""

FIGURES = {
    name: discovery.constants(discovery.path("lipscale.report.figures", name))
    for name in discovery.names("lipscale.report.figures")
}
PAGES = {"runs": ("Tables", "runs.csv"), "claims": ("Tables", "claims.csv"), "provenance": ("Provenance", "runs.csv")}
WIDEST = max(len(f"{settings.initial_lipschitz:.0f}") for settings in RUNS)  # digits before the point

# Making a report, not running first: Snakemake has read its command line by now, but does not say so.
REPORTING = "--report-after-run" not in sys.argv and any(argument.split("=")[0] == "--report" for argument in sys.argv)


def in_report(path, caption, **where):
    """A file that the report shows. Snakemake refuses a report where one is missing; an unfinished experiment has one all the same."""
    return path if REPORTING and not Path(path).exists() else report(path, caption=str(caption), **where)


def summary(settings):
    """The picture of a run, found by method, initial L and seed.

    Snakemake's report shows a label of two values as a switch, and fails where not every label occurs with both: labels have to
    be independent of each other, and the name of a run is not. It sorts them as text, so numbers are padded (by figure spaces,
    which a browser keeps) to sort by value.
    """
    method = METHODS[settings.method]
    value = f"{settings.initial_lipschitz:g}"
    padding = "\u2007" * (WIDEST - len(value.partition(".")[0]))
    return in_report(
        f"{RESULTS}/figures/summaries/{settings.run}.png",
        "../report/summary.rst",
        category="Runs",
        subcategory=method.label.replace("$", "").replace("_", ""),
        labels=({method.start.replace("_", ""): padding + value} if method.start else {}) | {"seed": str(settings.seed)},
    )


def launched(wildcards, input):
    """The version of Snakemake and its command. Not of the wildcards alone, so that another command reruns nothing."""
    return "" if REPORTING else f"Snakemake {snakemake_version}: {shlex.join(['snakemake', *sys.argv[1:]])}"


def tables_to_make(wildcards):
    """Nothing if there are tables: `snakemake figures` draws from them as they are, computes nothing else, and says so where
    one is missing because an older version did not write it."""
    return [] if Path(f"{RESULTS}/tables/runs.csv").exists() else rules.tabulate.output


FIGURE_FILES = [f"{RESULTS}/figures/{name}.{suffix}" for name in FIGURES for suffix in ("png", "pdf", "csv")]
PAGE_FILES = [f"{RESULTS}/pages/{name}.html" for name in PAGES]

# The code that draws a figure is among its inputs, so that editing it redraws this figure and trains nothing.
for figure, constants in FIGURES.items():
    file = discovery.path("lipscale.report.figures", figure)

    rule:
        name:
            f"draw_{figure}"
        input:
            tables=[f"{RESULTS}/tables/{table}.csv" for table in constants["TABLES"]],
            config=f"{RESULTS}/tables/config.yaml",
            code=[str(file), str(CODE / "report" / "style.py")],
        output:
            png=in_report(
                f"{RESULTS}/figures/{figure}.png",
                file.with_suffix(".rst"),
                category="Figures",
                labels={"figure": constants["TITLE"]},
            ),
            pdf=f"{RESULTS}/figures/{figure}.pdf",
            numbers=f"{RESULTS}/figures/{figure}.csv",
        log:
            f"{RESULTS}/logs/draw_{figure}.txt",
        benchmark:
            f"{RESULTS}/benchmarks/draw_{figure}.tsv"
        group:
            "figures"
        conda:
            "../../envs/figures.yaml"
        threads: 1
        resources:
            mem_mb=more_memory(1000),
            runtime=more_time(10),
        params:
            figure=figure,
            experiment=RESULTS,
        shell:
            "python -m lipscale draw {params.experiment:q} --figures {params.figure:q} 2>&1 | tee {log:q}"


# One job for all runs, packed or not: it reads tables that all runs share, and starting Python takes longer than a picture.
rule summarise:
    input:
        tables=[f"{RESULTS}/tables/{table}.csv" for table in ("runs", "history", "feedback", "reliability")],
        code=[str(CODE / "report" / name) for name in ("summaries.py", "style.py")],
    output:
        [summary(settings) for settings in RUNS],
    log:
        f"{RESULTS}/logs/summarise.txt",
    benchmark:
        f"{RESULTS}/benchmarks/summarise.tsv"
    group:
        "figures"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(1000),
        runtime=more_time(10),
    params:
        experiment=RESULTS,
    shell:
        "python -m lipscale summarise {params.experiment:q} 2>&1 | tee {log:q}"


rule figures:
    input:
        tables_to_make,
    log:
        f"{RESULTS}/logs/figures.txt",
    benchmark:
        f"{RESULTS}/benchmarks/figures.tsv"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(1000),
        runtime=more_time(10),
    params:
        experiment=RESULTS,
    shell:
        "(python -m lipscale draw {params.experiment:q} && python -m lipscale summarise {params.experiment:q}) "
        "2>&1 | tee {log:q}"


# The provenance page is written by a local rule: only the Snakemake that was started knows its command.
for page, (category, table) in PAGES.items():

    rule:
        name:
            f"page_{page}"
        input:
            table=f"{RESULTS}/tables/{table}",
            manifest=rules.prepare_data.output.manifest,
            code=[str(CODE / "report" / name) for name in ("pages.py", "page.html")],
        output:
            in_report(f"{RESULTS}/pages/{page}.html", f"../report/{page}.rst", category=category, labels={"page": page}),
        log:
            f"{RESULTS}/logs/page_{page}.txt",
        benchmark:
            f"{RESULTS}/benchmarks/page_{page}.tsv"
        group:
            "provenance" if page == "provenance" else "figures"
        conda:
            "../../envs/figures.yaml"
        threads: 1
        resources:
            mem_mb=more_memory(1000),
            runtime=more_time(10),
        params:
            page=page,
            experiment=RESULTS,
            launched=launched if page == "provenance" else "",
        shell:
            "python -m lipscale page {params.page:q} {params.experiment:q} --launched={params.launched:q} --output {output:q} "
            "2>&1 | tee {log:q}"
