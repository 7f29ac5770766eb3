"""Why jobs failed, from the logs of the workflow."""

from pathlib import Path

MARK = "lipscale: "  # begins the sentence that a failed command ends with
LINES = 20  # of a log that ends without such a sentence


def reasons(folder: Path, since: float) -> list[str]:
    """For each log that was written since then and tells of a failure: its sentence, or the end of it, and its path."""
    found = {}
    for path in sorted(folder.rglob("*.txt")):
        if path.stat().st_mtime < since:
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        sentences = [line for line in lines if line.startswith(MARK)]
        if sentences:
            found.setdefault(sentences[-1], path)
        elif any(line.startswith("Traceback (most recent call last)") for line in lines):
            found.setdefault("\n".join(lines[-LINES:]), path)
    return [f"{text} (log: {path})" for text, path in found.items()]
