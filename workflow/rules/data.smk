# The one checked config that travels with an experiment, and with each of its runs. Other rules name it as `ancient`: a changed
# setting reruns the rules that have it among their params, and no others.
rule configure:
    output:
        experiment=f"{RESULTS}/config.yaml",
        runs=[f"{run_folder(settings)}/config.yaml" for settings in RUNS],
    log:
        f"{RESULTS}/logs/configure.txt",
    benchmark:
        f"{RESULTS}/benchmarks/configure.tsv"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    params:
        config=dump(CONFIG),
        experiment=results_folder,
    shell:
        "printf %s {params.config:q} | python -m lipscale configure {params.experiment:q} 2>&1 | tee {log:q}"


rule prepare_data:
    input:
        images=dataset_path,
        config=ancient(rules.configure.output.experiment),
    output:
        arrays=f"{DATA}/arrays.npz",
        manifest=f"{DATA}/manifest.json",
    log:
        f"{RESULTS}/logs/prepare_data.txt",
    benchmark:
        f"{RESULTS}/benchmarks/prepare_data.tsv"
    conda:
        "../../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(4000),
        runtime=more_time(30),
    params:
        settings=dump(CONFIG.dataset),
        folder=subpath(output.manifest, parent=True),
    shell:
        "python -m lipscale prepare {input.config:q} --folder {params.folder:q} 2>&1 | tee {log:q}"
