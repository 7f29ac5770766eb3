"""What the report shows, and where: categories, labels, captions."""

WIDEST = max(len(f"{settings['initial_lipschitz'] or 0:.0f}") for settings in RUNS)  # digits before the point

# Making a report, not running first: Snakemake has read its command line by now, but does not say so.
REPORTING = "--report-after-run" not in sys.argv and any(argument.split("=")[0] == "--report" for argument in sys.argv)


def in_report(path, caption, **where):
    """A file that the report shows. Snakemake refuses a report where one is missing; an unfinished experiment has one all the same."""
    return path if REPORTING and not Path(path).exists() else report(path, caption=f"../report/{caption}.rst", **where)


def drawn(name, label):
    """The picture of a figure."""
    return in_report(f"{RESULTS}/figures/{name}.png", name, category="Figures", labels={"figure": label})


def sheet(settings):
    """The picture of a run, found by method, initial L and seed.

    Snakemake's report shows a label of two values as a switch, and stumbles where not every label occurs with both: labels have to
    be independent of each other, and the name of a run is not. It sorts them as text, so that numbers are padded (by figure
    spaces, which a browser keeps) to stand in their order.
    """
    where = {"list": ("LiST", "L0"), "fixed": ("fixed L", "L"), "unconstrained": ("no constraint", None)}
    subcategory, name = where[settings["method"]]
    start = "" if name is None else f"{settings['initial_lipschitz']:g}"
    padding = "\u2007" * (WIDEST - len(start.partition(".")[0]))
    return in_report(
        f"{RESULTS}/figures/sheets/{settings['run']}.png",
        "sheet",
        category="Runs",
        subcategory=subcategory,
        labels=({name: padding + start} if name else {}) | {"seed": str(settings["seed"])},
    )


def launched(wildcards, input):
    """The version of Snakemake and its command. Not of the wildcards alone, so that another command makes nothing anew."""
    return "" if REPORTING else f"Snakemake {snakemake_version}: {shlex.join(['snakemake', *sys.argv[1:]])}"
