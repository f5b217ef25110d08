"""The families of models: one declarative row each, by the name that files give.

Facts from llama.cpp's model sources and the models' own configurations.
"""

from collections.abc import Mapping

from pipelines.conversion.architectures.architecture import Architecture
from pipelines.conversion.architectures.dense import DENSE
from pipelines.conversion.architectures.encoders import ENCODERS
from pipelines.conversion.architectures.experts import EXPERTS
from pipelines.conversion.architectures.older import OLDER
from pipelines.conversion.architectures.recurrent import RECURRENT

ARCHITECTURES: Mapping[str, Architecture] = {
    row.name: row for row in (*DENSE, *EXPERTS, *OLDER, *RECURRENT, *ENCODERS)
}
"""The supported families by `general.architecture`. OLMo 3 files say olmo2 as well."""
