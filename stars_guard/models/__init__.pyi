"""Public names of ``stars_guard.models``, and where each is at home."""

from stars_guard.algorithm.segments import Segmenter as Segmenter
from stars_guard.models.base import BatchesItself as BatchesItself
from stars_guard.models.base import LanguageModel as LanguageModel
from stars_guard.models.base import ObservedSession as ObservedSession
from stars_guard.models.base import Order as Order
from stars_guard.models.base import Proposal as Proposal
from stars_guard.models.base import Session as Session
from stars_guard.models.engines.openai import OpenAICompatibleModel as OpenAICompatibleModel
from stars_guard.models.engines.profiles import IdsRoute as IdsRoute
from stars_guard.models.engines.profiles import ServerProfile as ServerProfile
from stars_guard.models.engines.vllm import VLLMModel as VLLMModel
from stars_guard.models.local.int8 import int8_linears as int8_linears
from stars_guard.models.local.transformers import TransformersModel as TransformersModel
from stars_guard.text.dialects import DIALECTS as DIALECTS
from stars_guard.text.dialects import HERMES as HERMES
from stars_guard.text.dialects import LLAMA3 as LLAMA3
from stars_guard.text.dialects import MISTRAL as MISTRAL
from stars_guard.text.dialects import PLAIN as PLAIN
from stars_guard.text.dialects import Dialect as Dialect
from stars_guard.types import Candidate as Candidate
from stars_guard.types import Finish as Finish
from stars_guard.types import HiddenStates as HiddenStates
from stars_guard.types import ModelIdentity as ModelIdentity
