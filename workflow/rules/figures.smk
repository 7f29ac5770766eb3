FIGURE_CODE = Path(workflow.basedir) / "src" / "lipscale" / "figures"
STYLE = str(FIGURE_CODE / "style.py")


def drawn(name):
    """The picture of a figure, with its caption in the report."""
    return report(
        f"{RESULTS}/figures/{name}.png",
        caption=f"../report/{name}.rst",
        category="Figures",
        labels={"figure": name.removeprefix("figure")},
    )


# The code that draws a figure is among its inputs, so that editing it redraws this figure and trains nothing.
rule draw_figure1:
    input:
        tables=[f"{RESULTS}/tables/runs.csv", f"{RESULTS}/tables/sweep.csv"],
        code=[str(FIGURE_CODE / "figure1.py"), STYLE],
    output:
        png=drawn("figure1"),
        pdf=f"{RESULTS}/figures/figure1.pdf",
        numbers=f"{RESULTS}/figures/figure1.csv",
    params:
        figure="figure1",
        tables=f"{RESULTS}/tables",
        folder=f"{RESULTS}/figures",
        options=["--posthoc-lipschitz", CONFIG["figures"]["posthoc_lipschitz"]],
    log:
        f"{RESULTS}/logs/draw_figure1.txt",
    benchmark:
        f"{RESULTS}/benchmarks/draw_figure1.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    conda:
        "../../envs/figures.yaml"
    shell:
        "python -m lipscale draw {params.figure} --tables {params.tables:q} --folder {params.folder:q} "
        "{params.options} 2>&1 | tee {log:q}"


use rule draw_figure1 as draw_figure2 with:
    input:
        tables=[f"{RESULTS}/tables/history.csv"],
        code=[str(FIGURE_CODE / "figure2.py"), STYLE],
    output:
        png=drawn("figure2"),
        pdf=f"{RESULTS}/figures/figure2.pdf",
        numbers=f"{RESULTS}/figures/figure2.csv",
    params:
        figure="figure2",
        tables=f"{RESULTS}/tables",
        folder=f"{RESULTS}/figures",
        options=[],
    log:
        f"{RESULTS}/logs/draw_figure2.txt",
    benchmark:
        f"{RESULTS}/benchmarks/draw_figure2.tsv"


use rule draw_figure1 as draw_figure3 with:
    input:
        tables=[f"{RESULTS}/tables/runs.csv"],
        code=[str(FIGURE_CODE / "figure3.py"), STYLE],
    output:
        png=drawn("figure3"),
        pdf=f"{RESULTS}/figures/figure3.pdf",
        numbers=f"{RESULTS}/figures/figure3.csv",
    params:
        figure="figure3",
        tables=f"{RESULTS}/tables",
        folder=f"{RESULTS}/figures",
        options=[],
    log:
        f"{RESULTS}/logs/draw_figure3.txt",
    benchmark:
        f"{RESULTS}/benchmarks/draw_figure3.tsv"


rule figures:
    input:
        rules.draw_figure1.output,
        rules.draw_figure2.output,
        rules.draw_figure3.output,
