def dataset_path(wildcards):
    """The images that the config names, where they exist; if they do not, `prepare` says so in a sentence.

    A path with braces, which Snakemake takes for a wildcard, is read all the same, but not watched for changes.
    """
    path = CONFIG.dataset.path
    return path if CONFIG.dataset.name == "imagefolder" and os.path.exists(path) and "{" not in path else []


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
