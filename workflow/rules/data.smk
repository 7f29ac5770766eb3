rule prepare_data:
    input:
        dataset_path,
    output:
        arrays=expand(f"{DATA}/{{split}}_{{kind}}.npy", split=["train", "validation", "test"], kind=["images", "labels"]),
        manifest=f"{DATA}/manifest.json",
    log:
        f"{RESULTS}/logs/prepare_data.txt",
    benchmark:
        f"{RESULTS}/benchmarks/prepare_data.tsv"
    conda:
        "../../envs/compute.yaml"
    threads: COMPUTE.threads if IMAGE_FILES else 1
    resources:
        mem_mb=more_memory(4000),
        runtime=more_time(30),
    params:
        settings=dump(CONFIG.dataset),
        config=f"{RESULTS}/config.yaml",
        folder=subpath(output.manifest, parent=True),
    shell:
        "python -m lipscale prepare {params.config:q} --folder {params.folder:q} --jobs {threads} 2>&1 | tee {log:q}"
