"""The steps of the workflow, one file each: read files, call the science, write files. Only this code knows paths.

Each module has `arguments(parser)`, which adds its command-line arguments, and `run(options)`. The first line of its docstring
is its help text; the rest, if there is any, is shown by `lipscale STEP --help`.
"""
