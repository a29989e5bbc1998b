"""Public names of ``stars_guard.loading``, and where each is at home."""

from stars_guard.loading.calibrated import CalibratedConfig as CalibratedConfig
from stars_guard.loading.calibrated import MadeFor as MadeFor
from stars_guard.loading.calibrated import read_config as read_config
from stars_guard.loading.calibrated import write_config as write_config
from stars_guard.loading.names import ModelLike as ModelLike
from stars_guard.loading.names import RewardLike as RewardLike
from stars_guard.loading.names import model_spec as model_spec
from stars_guard.loading.names import reward_spec as reward_spec
from stars_guard.loading.parts import load_config as load_config
from stars_guard.loading.parts import load_model as load_model
from stars_guard.loading.parts import load_reward as load_reward
from stars_guard.loading.specs import EmbeddedModel as EmbeddedModel
from stars_guard.loading.specs import EmbeddedReward as EmbeddedReward
from stars_guard.loading.specs import EngineInProcess as EngineInProcess
from stars_guard.loading.specs import EngineServer as EngineServer
from stars_guard.loading.specs import LocalJudge as LocalJudge
from stars_guard.loading.specs import LocalModel as LocalModel
from stars_guard.loading.specs import LocalProbe as LocalProbe
from stars_guard.loading.specs import LocalReward as LocalReward
from stars_guard.loading.specs import ModelSpec as ModelSpec
from stars_guard.loading.specs import ReadyModel as ReadyModel
from stars_guard.loading.specs import ReadyReward as ReadyReward
from stars_guard.loading.specs import RewardCallable as RewardCallable
from stars_guard.loading.specs import RewardCode as RewardCode
from stars_guard.loading.specs import RewardSpec as RewardSpec
from stars_guard.loading.specs import ScoringServer as ScoringServer
