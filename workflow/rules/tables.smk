TABLES = (
    "runs.csv", "intervals.csv", "robustness.csv", "history.csv", "feedback.csv", "sweep.csv", "reliability.csv",
    "reliability_band.csv", "certified.csv", "images.csv.gz", "config.yaml",
)  # fmt: skip
OF_RUN = (
    "history.csv", "feedback.csv", "provenance.json", "calibration.json", "reliability.csv", "sweep.csv",
    "logits.npz", "radii.csv", "certificate.json", "attack.csv", "attack.json",
)  # fmt: skip
OF_CONSTRAINED = ("calibration_attack.csv", "calibration_attack.json", "reliability_band.csv")


rule tabulate:
    input:
        manifest=rules.prepare_data.output.manifest,
        runs=[f"{run_folder(settings)}/{name}" for settings in RUNS for name in OF_RUN],
        attacked=[f"{folder}/{name}" for folder in folders_of("constrained") for name in OF_CONSTRAINED],
    output:
        [f"{run_folder(settings)}/images.csv" for settings in RUNS],
        [f"{RESULTS}/tables/{name}" for name in TABLES],
    log:
        f"{RESULTS}/logs/tabulate.txt",
    benchmark:
        f"{RESULTS}/benchmarks/tabulate.tsv"
    group:
        "figures"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(2000),
        runtime=more_time(10),
    params:
        config=asked_for,
        experiment=results_folder,
    shell:
        "python -m lipscale tabulate {params.experiment:q} 2>&1 | tee {log:q}"


rule tabulate_falsifications:
    input:
        [f"{folder}/falsification.json" for folder in folders_of("constrained")],
    output:
        f"{RESULTS}/tables/falsification.csv",
    log:
        f"{RESULTS}/logs/tabulate_falsifications.txt",
    benchmark:
        f"{RESULTS}/benchmarks/tabulate_falsifications.tsv"
    group:
        "figures"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(1000),
        runtime=more_time(10),
    params:
        experiment=results_folder,
    shell:
        "python -m lipscale tabulate-falsifications {params.experiment:q} 2>&1 | tee {log:q}"


rule claims:
    input:
        [f"{RESULTS}/tables/{name}" for name in ("runs.csv", "history.csv", "sweep.csv", "images.csv.gz", "config.yaml")],
        [str(path) for path in sorted((CODE / "tables" / "claims").rglob("*.py"))],
    output:
        table=f"{RESULTS}/tables/claims.csv",
        page=f"{RESULTS}/tables/claims.md",
    log:
        f"{RESULTS}/logs/claims.txt",
    benchmark:
        f"{RESULTS}/benchmarks/claims.tsv"
    group:
        "figures"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(2000),
        runtime=more_time(10),
    params:
        experiment=results_folder,
    shell:
        "python -m lipscale claims {params.experiment:q} 2>&1 | tee {log:q}"
