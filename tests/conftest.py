"""How many examples hypothesis tries of a law, and what a run says of itself."""

from hypothesis import HealthCheck, settings

from effort import effort

settings.register_profile(
    "logitchain",
    max_examples=effort(interpreted=8, quick=60, long=500),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("logitchain")


def pytest_report_header() -> list[str]:
    """What these tests cover, and where the others are."""
    return [
        "logitchain: the laws of every control against its definition in float64, the same bits",
        "  in any batch and at any address, golden cases of other engines, bad input, threads and",
        "  forks, a wheel beside another package; and every snippet of README and docs.",
        "  Not here: engines and peers, the server, the playground (`make` lists them).",
    ]
