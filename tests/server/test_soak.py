"""Half a minute of `make soak`."""

from soak import check, soak


def test_half_a_minute_of_mixed_requests(server):
    check(*soak(server, seconds=30))
