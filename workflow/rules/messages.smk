"""What the workflow does before its first job, and what it prints when a job has failed."""

import time

STARTED = time.time()


COMPUTING = {
    "prepare_data",
    "train",
    "evaluate",
    "evaluate_shard",
    "attack",
    "attack_shard",
    "attack_calibration",
    "attack_calibration_shard",
    "falsify_certificates",
    "tabulate",
    "tabulate_falsifications",
}


# The one checked config that travels with an experiment and with each of its runs is written before the first job. It is no
# input of a rule: a changed setting reruns the rules that have it among their params. Nothing that was computed is
# overwritten: runs and attacks of other settings are moved away first.
onstart:
    cores = workflow.resource_settings.cores
    jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name in COMPUTING]
    wanted = COMPUTE.gpus * COMPUTE.threads
    # Snakemake would give a training fewer cores without a word. One process only gets slower then; several would share a core.
    if COMPUTE.gpus > 1 and cores and cores < wanted and any(job.rule.name == "train" for job in jobs):
        raise WorkflowError(
            f"a training takes {wanted} cores (compute.gpus is {COMPUTE.gpus}, compute.threads is {COMPUTE.threads}), but Snakemake "
            f"may use {cores}; give --cores {wanted}, set cores to at least {wanted} in the profile, or lower compute.threads"
        )
    if workflow.executor_plugin.name == "slurm" and cores:
        from lipscale.planning import cluster

        if refusal := cluster.refusal(cores, cluster.largest_node()):
            raise WorkflowError(refusal)
    from lipscale.store.configs import write_configs
    from lipscale.store.replaced import move_aside, not_asked_for

    folders = {}
    for job in jobs:
        if job.rule.name in ("train", "attack", "attack_calibration", "falsify_certificates"):
            folders.setdefault(job.rule.name, set()).update(Path(path).parent for path in job.output)
    for moved, reason in move_aside(CONFIG, folders):
        print(f"{moved} keeps what was made with {reason}", file=sys.stderr, flush=True)
    if stale := not_asked_for(CONFIG, Path(RESULTS)):
        print(f"{RESULTS}/runs has runs that the config does not ask for: {', '.join(stale)}", file=sys.stderr, flush=True)
    images, prepared = Path(CONFIG.dataset.path or ""), Path(DATA, "manifest.json")
    if IMAGE_FILES and images.exists() and prepared.exists() and images.stat().st_mtime > prepared.stat().st_mtime:
        print(
            f"{images} is newer than {DATA}, which was made from it and is used as it is; for changed images, choose another "
            f"experiment name, or delete {DATA} to prepare them and train all runs again",
            file=sys.stderr,
            flush=True,
        )
    if jobs:
        write_configs(CONFIG, Path(RESULTS))


# The sentence of a job that failed, or the end of its log. Snakemake itself says after `onerror` that a job failed and where its
# own log is, so the sentence is printed as the process ends.
onerror:
    import atexit
    from lipscale.store.logs import reasons

    for sentence in reversed(reasons(Path(RESULTS) / "logs", since=STARTED)):  # what is registered last runs first
        atexit.register(print, sentence, file=sys.stderr, flush=True)
