# Pages of the report, beside the figures.
rule page_runs:
    input:
        runs=rules.tabulate.output.runs,
        code=[str(CODE / "report" / "pages.py"), str(CODE / "report" / "page.html")],
    output:
        in_report(f"{RESULTS}/pages/runs.html", "runs", category="Tables", labels={"table": "runs"}),
    log:
        f"{RESULTS}/logs/page_runs.txt",
    benchmark:
        f"{RESULTS}/benchmarks/page_runs.tsv"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(1000),
        runtime=more_time(10),
    params:
        page="runs",
        tables=subpath(input.runs, parent=True),
        options=[],
    shell:
        "python -m lipscale page {params.page:q} --tables {params.tables:q} --output {output:q} {params.options:q} "
        "2>&1 | tee {log:q}"


use rule page_runs as page_claims with:
    input:
        claims=rules.judge.output.table,
        code=[str(CODE / "report" / "pages.py"), str(CODE / "report" / "page.html")],
    output:
        in_report(f"{RESULTS}/pages/claims.html", "claims", category="Tables", labels={"table": "claims"}),
    log:
        f"{RESULTS}/logs/page_claims.txt",
    benchmark:
        f"{RESULTS}/benchmarks/page_claims.tsv"
    params:
        page="claims",
        tables=subpath(input.claims, parent=True),
        options=[],


# A local rule: only the Snakemake that was started knows its command.
use rule page_runs as page_provenance with:
    input:
        runs=rules.tabulate.output.runs,
        config=rules.tabulate.output.config,
        manifest=rules.prepare_data.output.manifest,
        code=[str(CODE / "report" / "pages.py"), str(CODE / "report" / "page.html")],
    output:
        in_report(f"{RESULTS}/pages/provenance.html", "provenance", category="Provenance", labels={"page": "provenance"}),
    log:
        f"{RESULTS}/logs/page_provenance.txt",
    benchmark:
        f"{RESULTS}/benchmarks/page_provenance.tsv"
    params:
        page="provenance",
        tables=subpath(input.runs, parent=True),
        options=lambda wildcards, input: ["--data", str(Path(input.manifest).parent), "--launched", launched(wildcards, input)],
