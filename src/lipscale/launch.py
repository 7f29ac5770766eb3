"""Several processes for one command: `torchrun` starts them, and a failure of any of them becomes one sentence.

A command starts itself again in each process, which finds its number in the environment. If one of them ends, however it ends,
torchrun ends the others.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lipscale.errors import LipscaleError
from lipscale.store import files

LOST = ("connection closed by peer", "connection reset by peer", "broken pipe", "connection refused")  # gloo, of a dead process


def is_member() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """The number of this process among those of torchrun, all on one machine."""
    return int(os.environ["LOCAL_RANK"])


def start(count: int, command: Sequence[str], threads: int) -> None:
    """Run `lipscale COMMAND` in `count` processes until all have ended.

    Args:
        command: with its arguments.
        threads: of each process.

    Raises:
        LipscaleError: one of them failed or was killed.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # tables of failures, where a sentence follows
    options = ["--standalone", f"--nproc-per-node={count}", "--module", "lipscale", *command]
    try:
        torchrun.run(torchrun.parse_args(options))
    except ChildFailedError as error:
        raise LipscaleError(reason(error.failures, count)) from None
    except SignalException as error:  # torchrun has passed it on to all processes
        sys.exit(128 + error.sigval)


@contextmanager
def member() -> Iterator[None]:
    """The work of a process that torchrun has started: it ends with its parent, and leaves the telling of errors to it."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        yield
    except LipscaleError as error:
        _record(str(error))
        sys.exit(1)
    except OSError as error:
        if error.errno is None:
            raise
        _record(f"{error.filename or 'the operating system'}: {files.explain(error.errno)}")
        sys.exit(1)
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in LOST):
            raise
        sys.exit(1)  # of the process that was lost, the parent knows more


def reason(failures: Mapping[int, object], count: int) -> str:
    """Why processes ended: of torchrun's failures by number, a signal comes before an error, which may follow from it."""
    for number, failure in sorted(failures.items()):
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:  # with which torchrun itself ends processes
            name = signal.Signals(-failure.exitcode).name
            why = ", as happens when memory runs out" if name == "SIGKILL" else ""
            return (
                f"process {number + 1} of {count} was killed ({name}){why}; the others were ended, and the same command "
                "resumes after the last finished epoch"
            )
    told = [failure.error_file_data["message"] for _, failure in sorted(failures.items())]
    numbers = ", ".join(str(number + 1) for number in sorted(failures))
    return next(filter(None, told), f"process {numbers} of {count} failed for an unknown reason; the log above says more")


def _record(sentence: str) -> None:
    """Leave a sentence in the file that torchrun reads when this process has failed."""
    try:
        Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps({"message": sentence}), encoding="utf-8")
    except OSError:
        print(f"lipscale: {sentence}", file=sys.stderr)


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, which cannot end it when it is killed itself."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
