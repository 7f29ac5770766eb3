rule predict:
    input:
        data=rules.prepare_data.output,
        model=of_light("model.safetensors"),
    output:
        of_light("logits.npz"),
    params:
        data=DATA,
        device=COMPUTE["device"],
        runs=folders,
    log:
        f"{RESULTS}/logs/predict/{LIGHT_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/predict/{LIGHT_JOB}.tsv"
    threads: 1
    resources:
        mem_mb=COMPUTE["mem_mb"],
        runtime=30,
        gpu=GPU,
    conda:
        "../../envs/compute.yaml"
    shell:
        "python -m lipscale predict {params.runs:q} --data {params.data:q} --device {params.device} 2>&1 | tee {log:q}"


rule calibrate:
    input:
        of_light("logits.npz"),
    output:
        calibration=of_light("calibration.json"),
        sweep=of_light("sweep.csv"),
    params:
        runs=folders,
    log:
        f"{RESULTS}/logs/calibrate/{LIGHT_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/calibrate/{LIGHT_JOB}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    conda:
        "../../envs/compute.yaml"
    shell:
        "python -m lipscale calibrate {params.runs:q} 2>&1 | tee {log:q}"


rule certify:
    input:
        logits=of_light("logits.npz"),
        history=of_light("history.csv"),
    output:
        of_light("radii.csv"),
    params:
        runs=folders,
    log:
        f"{RESULTS}/logs/certify/{LIGHT_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/certify/{LIGHT_JOB}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    conda:
        "../../envs/figures.yaml"
    shell:
        "python -m lipscale certify {params.runs:q} 2>&1 | tee {log:q}"


rule attack:
    input:
        data=rules.prepare_data.output,
        model=of_heavy("model.safetensors"),
        logits=of_heavy("logits.npz"),
    output:
        rows=of_heavy("attack.csv"),
        settings=of_heavy("attack.json"),
    params:
        data=DATA,
        device=COMPUTE["device"],
        threads=COMPUTE["threads"],
        epsilons=EVALUATION["epsilons"],
        images=EVALUATION["attack_images"],
        batch_size=EVALUATION["attack_batch_size"],
        seed=EVALUATION["attack_seed"],
        runs=folders,
    log:
        f"{RESULTS}/logs/attack/{HEAVY_JOB}.txt",
    benchmark:
        f"{RESULTS}/benchmarks/attack/{HEAVY_JOB}.tsv"
    threads: COMPUTE["threads"]
    resources:
        mem_mb=COMPUTE["mem_mb"],
        runtime=COMPUTE["attack_runtime"],
        gpu=GPU,
    conda:
        "../../envs/compute.yaml"
    shell:
        "python -m lipscale attack {params.runs:q} --data {params.data:q} --epsilons {params.epsilons} "
        "--images {params.images} --batch-size {params.batch_size} --seed {params.seed} "
        "--device {params.device} --threads {params.threads} 2>&1 | tee {log:q}"


rule tabulate:
    input:
        expand(
            "{folder}/{name}",
            folder=RUN_FOLDERS,
            name=[
                "config.yaml",
                "history.csv",
                "provenance.json",
                "calibration.json",
                "sweep.csv",
                "radii.csv",
                "attack.csv",
                "attack.json",
            ],
        ),
    output:
        images=expand("{folder}/images.csv", folder=RUN_FOLDERS),
        runs=f"{RESULTS}/tables/runs.csv",
        history=f"{RESULTS}/tables/history.csv",
        sweep=f"{RESULTS}/tables/sweep.csv",
    params:
        epsilons=EVALUATION["epsilons"],
        tables=f"{RESULTS}/tables",
        runs=RUN_FOLDERS,
    log:
        f"{RESULTS}/logs/tabulate.txt",
    benchmark:
        f"{RESULTS}/benchmarks/tabulate.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
        gpu=0,
    conda:
        "../../envs/figures.yaml"
    shell:
        "python -m lipscale tabulate {params.runs:q} --epsilons {params.epsilons} --tables {params.tables:q} "
        "2>&1 | tee {log:q}"
