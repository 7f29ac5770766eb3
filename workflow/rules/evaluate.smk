rule evaluate:
    input:
        arrays=rules.prepare_data.output.arrays,
        manifest=rules.prepare_data.output.manifest,
        model=of_light("model.safetensors"),
        history=of_light("history.csv"),
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
        gres=GPU,
        gpu_share=GPU_SHARE,
    params:
        runs=runs_of,
    shell:
        "python -m lipscale evaluate {params.runs:q} 2>&1 | tee {log:q}"
