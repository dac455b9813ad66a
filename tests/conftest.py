"""How many examples hypothesis tries of a law."""

from hypothesis import HealthCheck, settings

from effort import effort

settings.register_profile(
    "logitchain",
    max_examples=effort(interpreted=8, quick=60, long=500),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("logitchain")
