rule train_list:
    input:
        arrays=rules.prepare_data.output.arrays,
        manifest=rules.prepare_data.output.manifest,
    output:
        config=of_heavy("config.yaml"),
        history=of_heavy("history.csv"),
        feedback=of_heavy("feedback.csv"),
        model=of_heavy("model.safetensors"),
        provenance=of_heavy("provenance.json"),
    log:
        f"{RESULTS}/logs/train/{HEAVY_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/train/{HEAVY_JOB}.tsv"
    wildcard_constraints:
        setting="list-[^/]+",
    conda:
        "../../envs/compute.yaml"
    threads: COMPUTE["threads"]
    resources:
        mem_mb=more_memory(COMPUTE["mem_mb"]),
        runtime=more_time(COMPUTE["train_runtime"]),
        gres=GPU,
        gpu_share=GPU_SHARE,
    params:
        settings=settings_of,
        data=subpath(input.manifest, parent=True),
        runs=lambda wildcards, output: Path(output.config[0] if PACKED else output.config).parent.parent,
    shell:
        "printf %s {params.settings:q} | python -m lipscale train --settings - --data {params.data:q} "
        "--runs {params.runs:q} 2>&1 | tee {log:q}"


use rule train_list as train_fixed with:
    wildcard_constraints:
        setting="fixed-[^/]+",


use rule train_list as train_unconstrained with:
    wildcard_constraints:
        setting="unconstrained",
