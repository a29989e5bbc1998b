"""Public names of ``stars_guard.loading``, and where each is at home."""

from stars_guard.loading.calibrated import CalibratedConfig as CalibratedConfig
from stars_guard.loading.calibrated import MadeFor as MadeFor
from stars_guard.loading.calibrated import read_config as read_config
from stars_guard.loading.calibrated import write_config as write_config
from stars_guard.loading.parts import load_config as load_config
from stars_guard.loading.parts import load_model as load_model
from stars_guard.loading.parts import load_reward as load_reward
