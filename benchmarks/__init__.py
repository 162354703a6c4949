"""The measured claims, runnable: ``python -m benchmarks [NAME …]``.

A benchmark is a module here that is listed in `benchmarks.__main__.NAMES` and has one function::

    def run() -> Iterable[Measure]      # or: async def run() -> Iterable[Measure]

A generator may yield each measure as soon as it is known. Every figure is held against a baseline of the
same run where there is one, since machines differ and ratios carry over.
"""
