rule train:
    input:
        arrays=rules.prepare_data.output.arrays,
        manifest=rules.prepare_data.output.manifest,
        replayed=replayed,
    output:
        history=of_heavy("history.csv"),
        feedback=of_heavy("feedback.csv"),
        model=of_heavy("model.safetensors"),
        provenance=of_heavy("provenance.json"),
    log:
        f"{RESULTS}/logs/train/{HEAVY_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/train/{HEAVY_JOB}.tsv"
    group:
        "train"
    conda:
        "../../envs/compute.yaml"
    threads: COMPUTE.gpus * COMPUTE.threads
    resources:
        mem_mb=more_memory(COMPUTE.gpus * COMPUTE.mem_mb),
        runtime=more_time(COMPUTE.train_runtime),
        gres=GPUS,
        gpu_share=GPU_SHARE,
    params:
        settings=settings_of(lambda settings: settings.identity()),
        runs=runs_of,
    shell:
        "python -m lipscale train {params.runs:q} 2>&1 | tee {log:q}"
