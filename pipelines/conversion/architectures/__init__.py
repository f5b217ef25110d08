"""Describes a GGUF as a frozen ModelSpec: one declarative row per family, the rest inferred."""

from pipelines.conversion.architectures.describe import describe as describe
from pipelines.conversion.architectures.spec import DeltaAttention as DeltaAttention
from pipelines.conversion.architectures.spec import DeltaNet as DeltaNet
from pipelines.conversion.architectures.spec import Experts as Experts
from pipelines.conversion.architectures.spec import ExpertSelection as ExpertSelection
from pipelines.conversion.architectures.spec import FeedForward as FeedForward
from pipelines.conversion.architectures.spec import Heads as Heads
from pipelines.conversion.architectures.spec import LatentAttention as LatentAttention
from pipelines.conversion.architectures.spec import Layer as Layer
from pipelines.conversion.architectures.spec import LayerEmbedding as LayerEmbedding
from pipelines.conversion.architectures.spec import LayerInput as LayerInput
from pipelines.conversion.architectures.spec import Linear as Linear
from pipelines.conversion.architectures.spec import ModelSpec as ModelSpec
from pipelines.conversion.architectures.spec import Norm as Norm
from pipelines.conversion.architectures.spec import Pooling as Pooling
from pipelines.conversion.architectures.spec import QueryTemperature as QueryTemperature
from pipelines.conversion.architectures.spec import Recurrence as Recurrence
from pipelines.conversion.architectures.spec import Rotary as Rotary
from pipelines.conversion.architectures.spec import Selection as Selection
from pipelines.conversion.architectures.spec import ShortConvolution as ShortConvolution
from pipelines.conversion.architectures.spec import StateSpace as StateSpace
from pipelines.conversion.architectures.spec import StreamMixing as StreamMixing
from pipelines.conversion.architectures.spec import Streams as Streams
from pipelines.conversion.architectures.spec import Xielu as Xielu
from pipelines.conversion.architectures.table import ARCHITECTURES as ARCHITECTURES
