rule attack:
    input:
        arrays=rules.prepare_data.output.arrays,
        manifest=rules.prepare_data.output.manifest,
        model=of_heavy("model.safetensors"),
        logits=of_heavy("logits.npz"),
        calibration=of_heavy("calibration.json"),
        radii=of_heavy("radii.csv"),
        shards=of_shards(EVALUATION.epsilons),
    output:
        rows=of_heavy("attack.csv"),
        settings=of_heavy("attack.json"),
    log:
        f"{RESULTS}/logs/attack/{HEAVY_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/attack/{HEAVY_JOB}.tsv"
    group:
        "attack"
    conda:
        "../../envs/compute.yaml"
    threads: 1 if SPLIT else COMPUTE.threads
    resources:
        mem_mb=more_memory(COMPUTE.mem_mb),
        runtime=more_time(COMPUTE.attack_runtime),
        gres="" if SPLIT else GPU,
        gpu_share=0 if SPLIT else GPU_SHARE,
    params:
        settings=settings_of(attack_settings),
        runs=runs_of,
    shell:
        "python -m lipscale attack {params.runs:q} 2>&1 | tee {log:q}"


# Of no group: connected jobs of a group share one allocation, and these are to run on many. Which images are attacked depends on
# the verdicts at smaller epsilons.
if SPLIT:

    rule attack_shard:
        input:
            arrays=rules.prepare_data.output.arrays,
            manifest=rules.prepare_data.output.manifest,
            model=of_heavy("model.safetensors"),
            logits=of_heavy("logits.npz"),
            calibration=of_heavy("calibration.json"),
            radii=of_heavy("radii.csv"),
            smaller=lambda wildcards: of_shards(one for one in EVALUATION.epsilons if one < int(wildcards.epsilon)),
        output:
            f"{RESULTS}/runs/{HEAVY_JOB}/attack-shards/{{epsilon}}-{{shard}}of{COMPUTE.shards}.json",
        log:
            f"{RESULTS}/logs/attack/{HEAVY_JOB}-{{epsilon}}-{{shard}}of{COMPUTE.shards}.txt",
        benchmark:
            f"{RESULTS}/benchmarks/attack/{HEAVY_JOB}-{{epsilon}}-{{shard}}of{COMPUTE.shards}.tsv"
        wildcard_constraints:
            epsilon="[0-9]+",
            shard="[0-9]+",
        conda:
            "../../envs/compute.yaml"
        threads: COMPUTE.threads
        resources:
            mem_mb=more_memory(COMPUTE.mem_mb),
            runtime=more_time(COMPUTE.attack_runtime),
            gres=GPU,
            gpu_share=GPU_SHARE,
        params:
            settings=settings_of(attack_settings),
            run=subpath(output[0], ancestor=2),
        shell:
            "python -m lipscale attack-shard {params.run:q} {wildcards.epsilon} {wildcards.shard} 2>&1 | tee {log:q}"


# On the images of `attack`, for runs with a constraint: `tabulate` asks for these only.
rule attack_calibration:
    input:
        arrays=rules.prepare_data.output.arrays,
        manifest=rules.prepare_data.output.manifest,
        model=of_heavy("model.safetensors"),
        logits=of_heavy("logits.npz"),
        calibration=of_heavy("calibration.json"),
        attacked=of_heavy("attack.csv"),
        shards=of_all_shards("calibration-attack-shards"),
    output:
        rows=of_heavy("calibration_attack.csv"),
        summary=of_heavy("calibration_attack.json"),
        band=of_heavy("reliability_band.csv"),
    log:
        f"{RESULTS}/logs/attack_calibration/{HEAVY_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/attack_calibration/{HEAVY_JOB}.tsv"
    group:
        "attack" if not SPLIT else "join"  # shards, of no group, come after `attack`
    conda:
        "../../envs/compute.yaml"
    threads: 1 if SPLIT else COMPUTE.threads
    resources:
        mem_mb=more_memory(COMPUTE.mem_mb),
        runtime=more_time(COMPUTE.attack_runtime),
        gres="" if SPLIT else GPU,
        gpu_share=0 if SPLIT else GPU_SHARE,
    params:
        settings=settings_of(lambda settings: settings.calibration_budgets),
        runs=runs_of,
    shell:
        "python -m lipscale attack-calibration {params.runs:q} 2>&1 | tee {log:q}"


if SPLIT:

    rule attack_calibration_shard:
        input:
            arrays=rules.prepare_data.output.arrays,
            manifest=rules.prepare_data.output.manifest,
            model=of_heavy("model.safetensors"),
            logits=of_heavy("logits.npz"),
            calibration=of_heavy("calibration.json"),
            attacked=of_heavy("attack.csv"),
        output:
            f"{RESULTS}/runs/{HEAVY_JOB}/calibration-attack-shards/{{shard}}of{COMPUTE.shards}.npz",
        log:
            f"{RESULTS}/logs/attack_calibration/{HEAVY_JOB}-{{shard}}of{COMPUTE.shards}.txt",
        benchmark:
            f"{RESULTS}/benchmarks/attack_calibration/{HEAVY_JOB}-{{shard}}of{COMPUTE.shards}.tsv"
        wildcard_constraints:
            shard="[0-9]+",
        conda:
            "../../envs/compute.yaml"
        threads: COMPUTE.threads
        resources:
            mem_mb=more_memory(COMPUTE.mem_mb),
            runtime=more_time(COMPUTE.attack_runtime),
            gres=GPU,
            gpu_share=GPU_SHARE,
        params:
            settings=settings_of(lambda settings: settings.calibration_budgets),
            run=subpath(output[0], ancestor=2),
        shell:
            "python -m lipscale attack-calibration-shard {params.run:q} {wildcards.shard} 2>&1 | tee {log:q}"


# Not part of the experiment: `snakemake falsify` runs it.
rule falsify_certificates:
    input:
        arrays=rules.prepare_data.output.arrays,
        manifest=rules.prepare_data.output.manifest,
        model=of_heavy("model.safetensors"),
    output:
        rows=of_heavy("falsification.csv"),
        summary=of_heavy("falsification.json"),
    log:
        f"{RESULTS}/logs/falsify/{HEAVY_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/falsify/{HEAVY_JOB}.tsv"
    group:
        "attack"
    conda:
        "../../envs/compute.yaml"
    threads: COMPUTE.threads
    resources:
        mem_mb=more_memory(COMPUTE.mem_mb),
        runtime=more_time(COMPUTE.attack_runtime),
        gres=GPU,
        gpu_share=GPU_SHARE,
    params:
        settings=settings_of(
            lambda settings: settings.evaluation.model_dump(
                mode="json", include={"falsify_images", "attack_batch_size", "attack_seed"}
            )
        ),
        runs=runs_of,
    shell:
        "python -m lipscale falsify {params.runs:q} 2>&1 | tee {log:q}"
