"""python -m training.dpo: DPO from the command line."""

import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# before torch is loaded: oneDNN keeps a compiled kernel for each shape, and packs come in many lengths
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")

from generation.engines.processes import log_what_fits
from training.dpo.command import main

if __name__ == "__main__":
    log_what_fits()
    sys.exit(main())
