"""The command line. Most of a start is imports: what slows them for nothing is left out first."""

import gc
import os

# Loading modules makes no garbage worth looking for; `main` turns the collector on again.
gc.disable()
# pydantic reads the metadata of every installed package in search of plugins.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
