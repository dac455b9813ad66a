"""Hypothesis profiles: `HYPOTHESIS_PROFILE` chooses one; without the JIT a lighter one is used."""

import os

from hypothesis import HealthCheck, settings

SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
EXAMPLES = {"dev": 60, "ci": 150, "long": 1500, "interpreted": 8}

for name, examples in EXAMPLES.items():
    settings.register_profile(
        name, max_examples=examples, deadline=None, suppress_health_check=SLOW_IS_FINE
    )

interpreted = os.environ.get("NUMBA_DISABLE_JIT") == "1"
settings.load_profile("interpreted" if interpreted else os.environ.get("HYPOTHESIS_PROFILE", "dev"))
