"""What the assets work with: the settings, the folder of GGUF files and the registry."""

import re
from pathlib import Path

import dagster as dg

from runtime.registry import Registry
from runtime.settings import Settings

# What Dagster refuses in a partition's key.
NO_KEY = re.compile(r"\.\.\.|[\0\a\b\f\n\r\t\v]")


def is_partition_key(stem: str) -> bool:
    """Whether Dagster takes a file's name as a partition's key."""
    return NO_KEY.search(stem) is None


class ModelPreparation(dg.ConfigurableResource[None]):
    """Where models come from and go to. A field that is None is taken from `ROCMFORGE_*`."""

    home: str | None = None
    gguf_folder: str | None = None

    @property
    def settings(self) -> Settings:
        """The project's settings. Raises SettingsError for a value that does not fit."""
        return Settings.from_environment(home=self.home, gguf_folder=self.gguf_folder)

    @property
    def registry(self) -> Registry:
        """The published models."""
        return Registry(self.settings)

    def gguf(self, partition_key: str) -> Path:
        """The file that a partition stands for."""
        return self.settings.incoming_folder / f"{partition_key}.gguf"

    def partition_keys(self) -> list[str]:
        """A key for every GGUF file in the folder, but for hidden ones."""
        paths = self.settings.incoming_folder.glob("[!.]*.gguf")
        return sorted(path.stem for path in paths if is_partition_key(path.stem))
