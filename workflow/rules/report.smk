"""What the report shows, and where: categories, labels, captions. A figure is found by its file."""

from snakemake.report.common import data_uri_from_file

from lipscale.report.names import variant_parts

REPORT_CODE = [str(path) for path in sorted((CODE / "report").glob("*.py"))]  # that figures and pages share
FIGURES = {
    name: discovery.constants(discovery.path("lipscale.report.figures", name))
    for name in discovery.names("lipscale.report.figures")
}
PAGES = {"runs": ("Tables", "runs.csv"), "claims": ("Tables", "claims.csv"), "provenance": ("Provenance", "runs.csv")}
WIDEST = max(len(f"{settings.initial_lipschitz:.0f}") for settings in RUNS)  # digits before the point
WIDEST_OFFSET = max(len(f"{settings.training.offset:.0f}") for settings in RUNS)

# Making a report, not running first: Snakemake has read its command line by now, but does not say so.
REPORTING = "--report-after-run" not in sys.argv and any(argument.split("=")[0] == "--report" for argument in sys.argv)

START = Path(f"{RESULTS}/figures/figure3.png")  # on the start page of the report
if REPORTING and START.exists():
    config["start_figure"] = data_uri_from_file(START)


def in_report(path, caption, **where):
    """A file that the report shows. Snakemake refuses a report where one is missing; an unfinished experiment has one all the same."""
    return path if REPORTING and not Path(path).exists() else report(path, caption=str(caption), **where)


def padded(value, widest):
    """A number with figure spaces before it, which a browser keeps, so that such texts sort by value."""
    text = f"{value:g}"
    return "\u2007" * (widest - len(text.partition(".")[0])) + text


def description(settings):
    """What tells a run from the others of its method and seed: initial L, offset, objective, use of calibration data."""
    method, offset = METHODS[settings.method], settings.training.offset
    objective, calibration_data = variant_parts(settings.variant)
    parts = [padded(settings.initial_lipschitz, WIDEST)] if method.start else []
    parts += [f"ξ = {padded(offset, WIDEST_OFFSET)}"] if offset else []
    parts += [objective] if objective else [] if parts else ["cross-entropy"]
    return " ".join([", ".join(parts), calibration_data]).strip()


def summary(settings):
    """The picture of a run, found by method, by what tells it from others of its method, and by seed.

    Snakemake's report shows a label of two values as a switch, and fails where not every label occurs with both: labels have to
    be independent of each other: one label holds initial L, offset and objective, which do not occur in all combinations. It sorts
    labels as text, so numbers are padded.
    """
    method = METHODS[settings.method]
    several = len({other.setting for other in RUNS if other.method == settings.method}) > 1
    name = method.start.replace("_", "") or ("objective" if several else "")
    return in_report(
        f"{RESULTS}/figures/summaries/{settings.run}.png",
        "../report/summary.rst",
        category="Runs",
        subcategory=method.label.replace("$", "").replace("_", ""),
        labels=({name: description(settings)} if name else {}) | {"seed": str(settings.seed)},
    )


def launched(wildcards, input):
    """The option with Snakemake's version and its command. Not of the wildcards alone, so that another command reruns nothing."""
    return [] if REPORTING else ["--launched", f"Snakemake {snakemake_version}: {shlex.join(['snakemake', *sys.argv[1:]])}"]


def tables_to_make(wildcards):
    """Nothing if there are tables: `snakemake figures` draws from them as they are, computes nothing else, and says so where
    one is missing because an older version did not write it."""
    return [] if Path(f"{RESULTS}/tables/runs.csv").exists() else rules.tabulate.output


FIGURE_FILES = [f"{RESULTS}/figures/{name}.{suffix}" for name in FIGURES for suffix in ("png", "pdf", "csv")]
PAGE_FILES = [f"{RESULTS}/pages/{name}.html" for name in PAGES]
