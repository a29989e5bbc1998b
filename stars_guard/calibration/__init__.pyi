"""Public names of ``stars_guard.calibration``, and where each is at home."""

from stars_guard.calibration.cascade import Band as Band
from stars_guard.calibration.cascade import LogOdds as LogOdds
from stars_guard.calibration.cascade import fit_log_odds as fit_log_odds
from stars_guard.calibration.cascade import narrowest_band as narrowest_band
from stars_guard.calibration.draw import DrawPlan as DrawPlan
from stars_guard.calibration.fit import Wish as Wish
from stars_guard.calibration.procedure import calibrate as calibrate
from stars_guard.calibration.risk import ANY_UNSAFE_ACCEPTED as ANY_UNSAFE_ACCEPTED
from stars_guard.calibration.risk import SAFE_REFUSED as SAFE_REFUSED
from stars_guard.calibration.risk import SAFE_REJECTED_SHARE as SAFE_REJECTED_SHARE
from stars_guard.calibration.risk import UNSAFE_ACCEPTED_SHARE as UNSAFE_ACCEPTED_SHARE
from stars_guard.calibration.risk import UNSAFE_MISSED as UNSAFE_MISSED
from stars_guard.calibration.risk import Example as Example
from stars_guard.calibration.risk import Loss as Loss
from stars_guard.calibration.risk import RiskControl as RiskControl
from stars_guard.calibration.risk import control_risk as control_risk
from stars_guard.calibration.risk import shown_within as shown_within
from stars_guard.calibration.shown import ShownChance as ShownChance
from stars_guard.calibration.shown import ShownWish as ShownWish
from stars_guard.calibration.shown import shown_chances as shown_chances
from stars_guard.calibration.statistics import describe as describe
from stars_guard.loading.calibrated import CalibratedConfig as CalibratedConfig
from stars_guard.loading.calibrated import MadeFor as MadeFor
from stars_guard.loading.calibrated import read_config as read_config
from stars_guard.loading.calibrated import write_config as write_config
