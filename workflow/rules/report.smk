"""What the report shows, and where: categories, labels, captions. A figure is found by its file."""

from snakemake.report.common import data_uri_from_file

REPORT_CODE = [str(path) for path in sorted((CODE / "report").glob("*.py"))]  # that figures and pages share
FIGURES = {
    name: discovery.constants(discovery.path("lipscale.report.figures", name))
    for name in discovery.names("lipscale.report.figures")
}
PAGES = {"runs": ("Tables", "runs.csv"), "claims": ("Tables", "claims.csv"), "provenance": ("Provenance", "runs.csv")}
WIDEST = max(len(f"{settings.initial_lipschitz:.0f}") for settings in RUNS)  # digits before the point

# Making a report, not running first: Snakemake has read its command line by now, but does not say so.
REPORTING = "--report-after-run" not in sys.argv and any(argument.split("=")[0] == "--report" for argument in sys.argv)

START = Path(f"{RESULTS}/figures/figure3.png")  # on the start page of the report
if REPORTING and START.exists():
    config["start_figure"] = data_uri_from_file(START)


def in_report(path, caption, **where):
    """A file that the report shows. Snakemake refuses a report where one is missing; an unfinished experiment has one all the same."""
    return path if REPORTING and not Path(path).exists() else report(path, caption=str(caption), **where)


def summary(settings):
    """The picture of a run, found by method, initial L and seed.

    Snakemake's report shows a label of two values as a switch, and fails where not every label occurs with both: labels have to
    be independent of each other, and the name of a run is not. It sorts them as text, so numbers are padded (by figure spaces,
    which a browser keeps) to sort by value.
    """
    method = METHODS[settings.method]
    value = f"{settings.initial_lipschitz:g}"
    padding = "\u2007" * (WIDEST - len(value.partition(".")[0]))
    return in_report(
        f"{RESULTS}/figures/summaries/{settings.run}.png",
        "../report/summary.rst",
        category="Runs",
        subcategory=method.label.replace("$", "").replace("_", ""),
        labels=({method.start.replace("_", ""): padding + value} if method.start else {}) | {"seed": str(settings.seed)},
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
