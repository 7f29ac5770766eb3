def dataset_path(wildcards):
    """The images that the config names, where they are there; if they are not, `prepare` says so in a sentence."""
    path = CONFIG["dataset"]["path"]
    return path if CONFIG["dataset"]["name"] == "imagefolder" and Path(path).exists() else []


rule prepare_data:
    input:
        dataset_path,
    output:
        arrays=f"{DATA}/arrays.npz",
        manifest=f"{DATA}/manifest.json",
    params:
        settings=json.dumps(CONFIG["dataset"]),
        folder=DATA,
    log:
        f"{RESULTS}/logs/prepare_data.txt",
    benchmark:
        f"{RESULTS}/benchmarks/prepare_data.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
        gpu=0,
    conda:
        "../../envs/compute.yaml"
    shell:
        "printf %s {params.settings:q} | python -m lipscale prepare --settings - --folder {params.folder:q} "
        "2>&1 | tee {log:q}"
