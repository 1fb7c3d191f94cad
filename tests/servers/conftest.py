from collections.abc import Callable, Iterator

import pytest

from tests.servers.processes import SERVERS, Site

# What a server or Python writes when something was not cleaned up.
_COMPLAINTS = (
    "Traceback",
    "WARNING",
    "ERROR",
    "never retrieved",
    "was destroyed",
    "Exception ignored",
    "ResourceWarning",
)


@pytest.fixture
def start_site(tmp_path) -> Iterator[Callable[..., Site]]:
    """Starts the small site; when the test is done, its log must hold no complaint."""
    sites: list[Site] = []

    def start(server: str, **settings: object) -> Site:
        sites.append(Site(server, tmp_path, **settings))
        return sites[-1]

    yield start
    for site in sites:
        site.close()
        log = site.log.read_text()
        assert not any(word in log for word in _COMPLAINTS), log


@pytest.fixture(scope="module", params=SERVERS)
def site(request, tmp_path_factory) -> Iterator[Site]:
    """One site a server for all tests of a module that only read and publish."""
    found = Site(
        request.param, tmp_path_factory.mktemp("site"), heartbeat=1, send_timeout=2, log_level="WARNING"
    )
    yield found
    found.close()
    log = found.log.read_text()
    assert not any(word in log for word in _COMPLAINTS), log
