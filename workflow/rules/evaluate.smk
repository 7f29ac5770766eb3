rule predict:
    input:
        arrays=rules.prepare_data.output.arrays,
        manifest=rules.prepare_data.output.manifest,
        model=of_light("model.safetensors"),
    output:
        of_light("logits.npz"),
    log:
        f"{RESULTS}/logs/predict/{LIGHT_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/predict/{LIGHT_JOB}.tsv"
    conda:
        "../../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(COMPUTE["mem_mb"]),
        runtime=more_time(30),
        gres=GPU,
        gpu_share=GPU_SHARE,
    params:
        data=subpath(input.manifest, parent=True),
        device=COMPUTE["device"],
        runs=folders,
    shell:
        "python -m lipscale predict {params.runs:q} --data {params.data:q} --device {params.device:q} 2>&1 | tee {log:q}"


rule calibrate:
    input:
        logits=of_light("logits.npz"),
        history=of_light("history.csv"),
    output:
        calibration=of_light("calibration.json"),
        reliability=of_light("reliability.csv"),
        sweep=of_light("sweep.csv"),
    log:
        f"{RESULTS}/logs/calibrate/{LIGHT_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/calibrate/{LIGHT_JOB}.tsv"
    conda:
        "../../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(2000),
        runtime=more_time(30),
    params:
        runs=folders,
    shell:
        "python -m lipscale calibrate {params.runs:q} 2>&1 | tee {log:q}"


rule certify:
    input:
        model=of_light("model.safetensors"),
        logits=of_light("logits.npz"),
    output:
        radii=of_light("radii.csv"),
        certificate=of_light("certificate.json"),
    log:
        f"{RESULTS}/logs/certify/{LIGHT_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/certify/{LIGHT_JOB}.tsv"
    conda:
        "../../envs/compute.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(2000),
        runtime=more_time(30),
    params:
        runs=folders,
    shell:
        "python -m lipscale certify {params.runs:q} 2>&1 | tee {log:q}"


rule attack:
    input:
        arrays=rules.prepare_data.output.arrays,
        manifest=rules.prepare_data.output.manifest,
        model=of_heavy("model.safetensors"),
        logits=of_heavy("logits.npz"),
        radii=of_heavy("radii.csv"),
    output:
        rows=of_heavy("attack.csv"),
        settings=of_heavy("attack.json"),
    log:
        f"{RESULTS}/logs/attack/{HEAVY_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/attack/{HEAVY_JOB}.tsv"
    conda:
        "../../envs/compute.yaml"
    threads: COMPUTE["threads"]
    resources:
        mem_mb=more_memory(COMPUTE["mem_mb"]),
        runtime=more_time(COMPUTE["attack_runtime"]),
        gres=GPU,
        gpu_share=GPU_SHARE,
    params:
        data=subpath(input.manifest, parent=True),
        device=COMPUTE["device"],
        threads=COMPUTE["threads"],
        epsilons=EVALUATION["epsilons"],
        images=EVALUATION["attack_images"],
        audit=EVALUATION["audit_images"],
        batch_size=EVALUATION["attack_batch_size"],
        seed=EVALUATION["attack_seed"],
        runs=folders,
    shell:
        "python -m lipscale attack {params.runs:q} --data {params.data:q} --epsilons {params.epsilons:q} "
        "--images {params.images:q} --audit {params.audit:q} --batch-size {params.batch_size:q} --seed {params.seed:q} "
        "--device {params.device:q} --threads {params.threads:q} 2>&1 | tee {log:q}"


# Not part of the experiment: `snakemake audit` makes it.
rule audit_certificates:
    input:
        arrays=rules.prepare_data.output.arrays,
        manifest=rules.prepare_data.output.manifest,
        model=of_heavy("model.safetensors"),
    output:
        rows=of_heavy("audit.csv"),
        summary=of_heavy("audit.json"),
    log:
        f"{RESULTS}/logs/audit/{HEAVY_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/audit/{HEAVY_JOB}.tsv"
    wildcard_constraints:
        setting="(list|fixed)-[^/]+",
    conda:
        "../../envs/compute.yaml"
    threads: COMPUTE["threads"]
    resources:
        mem_mb=more_memory(COMPUTE["mem_mb"]),
        runtime=more_time(COMPUTE["attack_runtime"]),
        gres=GPU,
        gpu_share=GPU_SHARE,
    params:
        data=subpath(input.manifest, parent=True),
        device=COMPUTE["device"],
        threads=COMPUTE["threads"],
        images=EVALUATION["own_radius_images"],
        batch_size=EVALUATION["attack_batch_size"],
        seed=EVALUATION["attack_seed"],
        runs=folders,
    shell:
        "python -m lipscale audit {params.runs:q} --data {params.data:q} --images {params.images:q} "
        "--batch-size {params.batch_size:q} --seed {params.seed:q} --device {params.device:q} --threads {params.threads:q} "
        "2>&1 | tee {log:q}"


rule tabulate_audits:
    input:
        expand("{folder}/{name}", folder=CERTIFIED_FOLDERS, name=["audit.json", "config.yaml"]),
    output:
        table=f"{RESULTS}/tables/audit.csv",
    log:
        f"{RESULTS}/logs/tabulate_audits.txt",
    benchmark:
        f"{RESULTS}/benchmarks/tabulate_audits.tsv"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(1000),
        runtime=more_time(10),
    params:
        tables=subpath(output.table, parent=True),
        runs=CERTIFIED_FOLDERS,
    shell:
        "python -m lipscale tabulate-audits {params.runs:q} --tables {params.tables:q} 2>&1 | tee {log:q}"


rule tabulate:
    input:
        manifest=rules.prepare_data.output.manifest,
        runs=expand(
            "{folder}/{name}",
            folder=RUN_FOLDERS,
            name=[
                "config.yaml",
                "history.csv",
                "feedback.csv",
                "provenance.json",
                "calibration.json",
                "reliability.csv",
                "sweep.csv",
                "radii.csv",
                "certificate.json",
                "attack.csv",
                "attack.json",
            ],
        ),
    output:
        images=expand("{folder}/images.csv", folder=RUN_FOLDERS),
        runs=f"{RESULTS}/tables/runs.csv",
        history=f"{RESULTS}/tables/history.csv",
        feedback=f"{RESULTS}/tables/feedback.csv",
        sweep=f"{RESULTS}/tables/sweep.csv",
        reliability=f"{RESULTS}/tables/reliability.csv",
        certified=f"{RESULTS}/tables/certified.csv",
        config=f"{RESULTS}/tables/config.yaml",
    log:
        f"{RESULTS}/logs/tabulate.txt",
    benchmark:
        f"{RESULTS}/benchmarks/tabulate.tsv"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(2000),
        runtime=more_time(10),
    params:
        config=asked_for,
        data=subpath(input.manifest, parent=True),
        tables=subpath(output.runs, parent=True),
        runs=RUN_FOLDERS,
    shell:
        "printf %s {params.config:q} | python -m lipscale tabulate {params.runs:q} --config - --data {params.data:q} "
        "--tables {params.tables:q} 2>&1 | tee {log:q}"


rule judge:
    input:
        runs=rules.tabulate.output.runs,
        history=rules.tabulate.output.history,
        sweep=rules.tabulate.output.sweep,
        code=str(CODE / "tables" / "claims.py"),
    output:
        table=f"{RESULTS}/tables/claims.csv",
        page=f"{RESULTS}/tables/claims.md",
    log:
        f"{RESULTS}/logs/judge.txt",
    benchmark:
        f"{RESULTS}/benchmarks/judge.tsv"
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(1000),
        runtime=more_time(10),
    params:
        tables=subpath(input.runs, parent=True),
        epsilon=min(EVALUATION["epsilons"]),
        posthoc_lipschitz=CONFIG["figures"]["posthoc_lipschitz"],
    shell:
        "python -m lipscale judge --tables {params.tables:q} --epsilon {params.epsilon:q} "
        "--posthoc-lipschitz {params.posthoc_lipschitz:q} 2>&1 | tee {log:q}"
