rule train_list:
    input:
        arrays=rules.prepare_data.output.arrays,
        manifest=rules.prepare_data.output.manifest,
    output:
        config=of_heavy("config.yaml"),
        history=of_heavy("history.csv"),
        model=of_heavy("model.safetensors"),
        provenance=of_heavy("provenance.json"),
    params:
        settings=settings_of,
        data=DATA,
        runs=f"{RESULTS}/runs",
    wildcard_constraints:
        setting="list-[^/]+",
    log:
        f"{RESULTS}/logs/train/{HEAVY_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/train/{HEAVY_JOB}.tsv"
    threads: COMPUTE["threads"]
    resources:
        mem_mb=COMPUTE["mem_mb"],
        runtime=COMPUTE["train_runtime"],
        gpu=GPU,
    conda:
        "../../envs/compute.yaml"
    shell:
        "printf %s {params.settings:q} | python -m lipscale train --settings - --data {params.data:q} "
        "--runs {params.runs:q} 2>&1 | tee {log:q}"


use rule train_list as train_fixed with:
    wildcard_constraints:
        setting="fixed-[^/]+",
