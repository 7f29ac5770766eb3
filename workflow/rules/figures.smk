# The code that draws a figure is among its inputs, so that editing it redraws this figure and trains nothing.
for figure, constants in FIGURES.items():
    file = discovery.path("lipscale.report.figures", figure)

    rule:
        name:
            f"draw_{figure}"
        input:
            tables=[table_file(name) for name in constants["TABLES"]],
            config=f"{RESULTS}/tables/config.yaml",
            code=[str(file), *REPORT_CODE],
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
            drawing=1,
        params:
            figure=figure,
            experiment=results_folder,
        shell:
            "python -m lipscale draw {params.experiment:q} --figures {params.figure:q} 2>&1 | tee {log:q}"


# One job for all runs, packed or not: it reads tables that all runs share, and starting Python takes longer than a picture.
rule summarise:
    input:
        tables=[f"{RESULTS}/tables/{table}.csv" for table in ("runs", "history", "feedback", "reliability")],
        code=REPORT_CODE,
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
        drawing=1,
    params:
        experiment=results_folder,
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
        experiment=results_folder,
    shell:
        "(python -m lipscale draw {params.experiment:q} && python -m lipscale summarise {params.experiment:q}) "
        "2>&1 | tee {log:q}"


# The provenance page is written by a local rule: only the Snakemake that was started knows its command. A rule with a group is not local.
for page, (category, table) in PAGES.items():

    rule:
        name:
            f"page_{page}"
        input:
            table=f"{RESULTS}/tables/{table}",
            manifest=rules.prepare_data.output.manifest,
            code=[*REPORT_CODE, str(CODE / "report" / "page.html")],
        output:
            in_report(f"{RESULTS}/pages/{page}.html", f"../report/{page}.rst", category=category, labels={"page": page}),
        log:
            f"{RESULTS}/logs/page_{page}.txt",
        benchmark:
            f"{RESULTS}/benchmarks/page_{page}.tsv"
        group:
            None if page == "provenance" else "figures"
        conda:
            "../../envs/figures.yaml"
        threads: 1
        resources:
            mem_mb=more_memory(1000),
            runtime=more_time(10),
            drawing=1,
        params:
            page=page,
            experiment=results_folder,
            options=launched if page == "provenance" else [],
        shell:
            "python -m lipscale page {params.page:q} {params.experiment:q} --output {output:q} {params.options:q} "
            "2>&1 | tee {log:q}"
