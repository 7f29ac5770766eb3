# The code that draws a figure is among its inputs, so that editing it redraws this figure and trains nothing.
rule draw_figure1:
    input:
        runs=rules.tabulate.output.runs,
        sweep=rules.tabulate.output.sweep,
        code=[str(FIGURE_CODE / "figure1.py"), STYLE],
    output:
        png=drawn("figure1", "1: ECE against L"),
        pdf=f"{RESULTS}/figures/figure1.pdf",
        numbers=f"{RESULTS}/figures/figure1.csv",
    log:
        f"{RESULTS}/logs/draw_figure1.txt",
    benchmark:
        f"{RESULTS}/benchmarks/draw_figure1.tsv"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(1000),
        runtime=more_time(10),
    params:
        figure="figure1",
        tables=subpath(input.runs, parent=True),
        folder=subpath(output.png, parent=True),
        options=["--posthoc-lipschitz", CONFIG["figures"]["posthoc_lipschitz"]],
    shell:
        "python -m lipscale draw {params.figure:q} --tables {params.tables:q} --folder {params.folder:q} "
        "{params.options:q} 2>&1 | tee {log:q}"


use rule draw_figure1 as draw_figure2 with:
    input:
        feedback=rules.tabulate.output.feedback,
        code=[str(FIGURE_CODE / "figure2.py"), STYLE],
    output:
        png=drawn("figure2", "2: T* and L by epoch"),
        pdf=f"{RESULTS}/figures/figure2.pdf",
        numbers=f"{RESULTS}/figures/figure2.csv",
    log:
        f"{RESULTS}/logs/draw_figure2.txt",
    benchmark:
        f"{RESULTS}/benchmarks/draw_figure2.tsv"
    params:
        figure="figure2",
        tables=subpath(input.feedback, parent=True),
        folder=subpath(output.png, parent=True),
        options=[],


use rule draw_figure1 as draw_figure3 with:
    input:
        runs=rules.tabulate.output.runs,
        code=[str(FIGURE_CODE / "figure3.py"), STYLE],
    output:
        png=drawn("figure3", "3: clean and robust accuracy"),
        pdf=f"{RESULTS}/figures/figure3.pdf",
        numbers=f"{RESULTS}/figures/figure3.csv",
    log:
        f"{RESULTS}/logs/draw_figure3.txt",
    benchmark:
        f"{RESULTS}/benchmarks/draw_figure3.tsv"
    params:
        figure="figure3",
        tables=subpath(input.runs, parent=True),
        folder=subpath(output.png, parent=True),
        options=[],


use rule draw_figure1 as draw_reliability with:
    input:
        reliability=rules.tabulate.output.reliability,
        code=[str(FIGURE_CODE / "reliability.py"), STYLE],
    output:
        png=drawn("reliability", "reliability diagrams"),
        pdf=f"{RESULTS}/figures/reliability.pdf",
        numbers=f"{RESULTS}/figures/reliability.csv",
    log:
        f"{RESULTS}/logs/draw_reliability.txt",
    benchmark:
        f"{RESULTS}/benchmarks/draw_reliability.tsv"
    params:
        figure="reliability",
        tables=subpath(input.reliability, parent=True),
        folder=subpath(output.png, parent=True),
        options=[],


use rule draw_figure1 as draw_certified with:
    input:
        certified=rules.tabulate.output.certified,
        code=[str(FIGURE_CODE / "certified.py"), STYLE],
    output:
        png=drawn("certified", "certified accuracy"),
        pdf=f"{RESULTS}/figures/certified.pdf",
        numbers=f"{RESULTS}/figures/certified.csv",
    log:
        f"{RESULTS}/logs/draw_certified.txt",
    benchmark:
        f"{RESULTS}/benchmarks/draw_certified.tsv"
    params:
        figure="certified",
        tables=subpath(input.certified, parent=True),
        folder=subpath(output.png, parent=True),
        options=[],


# One job for all runs, packed or not: it reads tables that all runs have joined, and starting Python takes longer than a sheet.
use rule draw_figure1 as draw_sheets with:
    input:
        runs=rules.tabulate.output.runs,
        history=rules.tabulate.output.history,
        reliability=rules.tabulate.output.reliability,
        code=[str(FIGURE_CODE / "sheets.py"), str(FIGURE_CODE / "reliability.py"), STYLE],
    output:
        [sheet(settings) for settings in RUNS],
    log:
        f"{RESULTS}/logs/draw_sheets.txt",
    benchmark:
        f"{RESULTS}/benchmarks/draw_sheets.tsv"
    params:
        figure="sheets",
        tables=subpath(input.runs, parent=True),
        folder=lambda wildcards, output: Path(output[0]).parent.parent,
        options=[],


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
        tables=f"{RESULTS}/tables/",
        folder=f"{RESULTS}/figures/",
        posthoc_lipschitz=CONFIG["figures"]["posthoc_lipschitz"],
    shell:
        "python -m lipscale draw figure1 figure2 figure3 reliability certified sheets --tables {params.tables:q} "
        "--folder {params.folder:q} --posthoc-lipschitz {params.posthoc_lipschitz:q} 2>&1 | tee {log:q}"
