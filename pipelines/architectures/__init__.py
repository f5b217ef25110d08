"""What a GGUF holds, as a frozen ModelSpec: one declarative row a family, the rest inferred."""

from pipelines.architectures.describe import describe as describe
from pipelines.architectures.spec import Choice as Choice
from pipelines.architectures.spec import Experts as Experts
from pipelines.architectures.spec import FeedForward as FeedForward
from pipelines.architectures.spec import LatentAttention as LatentAttention
from pipelines.architectures.spec import Layer as Layer
from pipelines.architectures.spec import Linear as Linear
from pipelines.architectures.spec import ModelSpec as ModelSpec
from pipelines.architectures.spec import QueryTemperature as QueryTemperature
from pipelines.architectures.spec import Rotary as Rotary
from pipelines.architectures.table import ARCHITECTURES as ARCHITECTURES
