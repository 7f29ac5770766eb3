rule evaluate:
    input:
        arrays=rules.prepare_data.output.arrays,
        manifest=rules.prepare_data.output.manifest,
        model=of_light("model.safetensors"),
        history=of_light("history.csv"),
        shards=of_all_shards("logits-shards"),
    output:
        logits=of_light("logits.npz"),
        calibration=of_light("calibration.json"),
        reliability=of_light("reliability.csv"),
        sweep=of_light("sweep.csv"),
        radii=of_light("radii.csv"),
        certificate=of_light("certificate.json"),
    log:
        f"{RESULTS}/logs/evaluate/{LIGHT_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{LIGHT_JOB}.tsv"
    group:
        "evaluate"
    conda:
        "../../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(COMPUTE.mem_mb),
        runtime=more_time(30),
        gres="" if SPLIT else GPU,
        gpu_share=0 if SPLIT else GPU_SHARE,
    params:
        runs=runs_of,
    shell:
        "python -m lipscale evaluate {params.runs:q} 2>&1 | tee {log:q}"


# Of no group: connected jobs of a group share one allocation, and these are to run on many.
if SPLIT:

    rule evaluate_shard:
        input:
            arrays=rules.prepare_data.output.arrays,
            manifest=rules.prepare_data.output.manifest,
            model=of_heavy("model.safetensors"),
        output:
            temp(f"{RESULTS}/runs/{HEAVY_JOB}/logits-shards/{{shard}}of{COMPUTE.shards}.npz"),
        log:
            f"{RESULTS}/logs/evaluate/{HEAVY_JOB}-{{shard}}of{COMPUTE.shards}.txt",
        benchmark:
            f"{RESULTS}/benchmarks/evaluate/{HEAVY_JOB}-{{shard}}of{COMPUTE.shards}.tsv"
        wildcard_constraints:
            shard="[0-9]+",
        conda:
            "../../envs/compute.yaml"
        threads: 1
        resources:
            mem_mb=more_memory(COMPUTE.mem_mb),
            runtime=more_time(30),
            gres=GPU,
            gpu_share=GPU_SHARE,
        params:
            run=subpath(output[0], ancestor=2),
        shell:
            "python -m lipscale evaluate-shard {params.run:q} {wildcards.shard} 2>&1 | tee {log:q}"
