"""What the workflow does before its first job, and what it says when a job has failed."""

import time

STARTED = time.time()


# Nothing that was computed is overwritten: runs and attacks of other settings are moved away before their jobs begin.
onstart:
    from lipscale.store.replaced import move_aside, not_asked_for

    jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name in ("train", "attack", "falsify_certificates")]
    folders = {Path(path).parent: job.rule.name for job in jobs for path in job.output}
    for moved, reason in move_aside(CONFIG, folders):
        print(f"{moved} keeps what was made with {reason}", file=sys.stderr, flush=True)
    if stale := not_asked_for(CONFIG, Path(RESULTS)):
        print(f"{RESULTS}/runs has runs that the config does not ask for: {', '.join(stale)}", file=sys.stderr, flush=True)


# The sentence of a job that failed, last and once; or the end of its log.
onerror:
    from lipscale.store.logs import reasons

    for sentence in reasons(Path(RESULTS) / "logs", since=STARTED):
        print(sentence, file=sys.stderr, flush=True)
