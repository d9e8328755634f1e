"""The suite in several processes (make test): which process runs what, and when.

A file's tests stay together and in their order: they share fixtures. So do all tests in the browser, which
share a demo, and all with vLLM, which share a server. What takes longest begins first, so that the
processes end together.
"""

from typing import Any

import pytest

BROWSER, VLLM = "tests/browser", "tests/generation/vllm"
LONGEST = (BROWSER, VLLM)


def unit(nodeid: str) -> str:
    """What is run by one process without a break: a file, or all in a folder that shares what is slow to start."""
    path = nodeid.split("::", 1)[0]
    return next((folder for folder in LONGEST if path.startswith(folder + "/")), path)


def turn(item: pytest.Item) -> int:
    name = unit(item.nodeid)
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    config.option.loadscopereorder = False  # by their number of tests; ours are in order already
    return Units(config, log)
