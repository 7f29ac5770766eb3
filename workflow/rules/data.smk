rule prepare_data:
    input:
        dataset_path,
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
        settings=dataset_settings,
        folder=subpath(output.manifest, parent=True),
    shell:
        "printf %s {params.settings:q} | python -m lipscale prepare --settings - --folder {params.folder:q} "
        "2>&1 | tee {log:q}"
