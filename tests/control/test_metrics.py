"""The metrics as a scraper reads them, over several workers and over everybody's death."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway import __version__
from gateway.latch import LatchKind
from gateway.model.observation import LATENCY_BOUNDS, EndpointReport
from tests.support.control import Client, Gateway, KeepingLink, make_counts, make_gateway, make_observation

pytestmark = pytest.mark.socket

NAMES = {
    "gateway_requests_total",
    "gateway_request_duration_seconds_bucket",
    "gateway_time_to_first_byte_seconds_bucket",
    "gateway_overhead_seconds_bucket",
    "gateway_inflight_requests",
    "gateway_failovers_total",
    "gateway_upstream_endpoint_healthy",
    "gateway_phase_info",
    "gateway_user_percentage",
    "gateway_cutover_engaged",
    "gateway_config_last_reload_successful",
    "gateway_config_last_reload_success_timestamp_seconds",
    "gateway_config_reloads_total",
    "gateway_records_dropped_total",
    "gateway_state_bytes",
    "gateway_worker_restarts_total",
    "gateway_build_info",
}


async def scrape(client: Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels."""
    families = text_string_to_metric_families(await client.metrics())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def requests_total(samples: dict[tuple[str, frozenset[tuple[str, str]]], float]) -> float:
    return sum(value for (name, _), value in samples.items() if name == "gateway_requests_total")


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return make_gateway(tmp_path)


async def test_every_metric_of_the_contract_is_there(gateway: Gateway) -> None:
    """The names are what dashboards rely on."""
    endpoint = EndpointReport("dspy", "http://127.0.0.1:9002", healthy=False, inflight=0)
    observation = make_observation("a", 11, make_counts())
    gateway.report(replace(observation, endpoints=(endpoint,)))
    async with gateway.control() as client:
        samples = await scrape(client)
    assert {name for name, _ in samples} >= NAMES
    assert samples[key("gateway_build_info", version=__version__)] == 1
    assert samples[key("gateway_phase_info", phase="canary")] == 1
    assert samples[key("gateway_user_percentage")] == 1
    assert samples[key("gateway_hold", kind="evidence")] == 0
    assert (
        samples[key("gateway_upstream_endpoint_healthy", upstream="dspy", endpoint="http://127.0.0.1:9002")]
        == 0
    )


async def test_two_workers_add_up_and_gauges_are_of_now(gateway: Gateway) -> None:
    """Counters and in-flight gauges are sums over the workers."""
    gateway.report(make_observation("a", 11, make_counts(requests=((200, "ok", 5),))))
    gateway.report(make_observation("b", 12, make_counts(requests=((200, "ok", 7), (504, "timeout", 1)))))
    async with gateway.control() as client:
        samples = await scrape(client)
    labels = {"route": "default", "arm": "control"}
    assert samples[key("gateway_requests_total", **labels, code="200", outcome="ok")] == 12
    assert samples[key("gateway_requests_total", **labels, code="504", outcome="timeout")] == 1
    assert samples[key("gateway_inflight_requests", arm="control")] == 4
    assert samples[key("gateway_inflight_requests", arm="treatment")] == 2
    assert samples[key("gateway_records_dropped_total")] == 2


async def test_histograms_are_cumulative_over_their_buckets(gateway: Gateway) -> None:
    """Prometheus wants each bucket to hold all smaller ones; count and sum fit."""
    gateway.report(make_observation("a", 11, make_counts(latencies=(0.004, 0.03, 0.03, 200.0))))
    async with gateway.control() as client:
        samples = await scrape(client)
    name = "gateway_request_duration_seconds"
    labels = {"route": "default", "arm": "control"}
    edges = [*map(str, LATENCY_BOUNDS), "+Inf"]
    buckets = [samples[key(f"{name}_bucket", **labels, le=edge)] for edge in edges]
    assert buckets == sorted(buckets)
    assert samples[key(f"{name}_bucket", **labels, le="0.005")] == 1
    assert samples[key(f"{name}_bucket", **labels, le="0.05")] == 3
    assert samples[key(f"{name}_bucket", **labels, le="120.0")] == 3
    assert buckets[-1] == samples[key(f"{name}_count", **labels)] == 4
    assert samples[key(f"{name}_sum", **labels)] == pytest.approx(200.064)


async def test_counters_survive_the_restart_of_a_worker(gateway: Gateway) -> None:
    """Over a worker's death and its successor's start no counter goes back or jumps."""
    gateway.report(make_observation("a", 11, make_counts(requests=((200, "ok", 5),))))
    async with gateway.control() as client:
        assert requests_total(await scrape(client)) == 5
        gateway.workers.clear()
        samples = await scrape(client)
        assert requests_total(samples) == 5
        assert samples[key("gateway_inflight_requests", arm="control")] == 0
        gateway.report(make_observation("b", 12, make_counts(requests=((200, "ok", 1),))))
        assert requests_total(await scrape(client)) == 6


async def test_counters_survive_the_restart_of_control(gateway: Gateway) -> None:
    """The dead worker's share was handed to the supervisor; the live one reports anew."""
    gateway.report(make_observation("a", 11, make_counts(requests=((200, "ok", 5),))))
    gateway.report(make_observation("b", 12, make_counts(requests=((200, "ok", 7),))))
    async with gateway.control() as client:
        assert requests_total(await scrape(client)) == 12
    gateway.workers = [worker for worker in gateway.workers if worker.pid == 12]
    gateway.link = KeepingLink(gateway.keeper)  # its ends were the dead control process's
    gateway.report(make_observation("b", 12, make_counts(requests=((200, "ok", 8),))))
    async with gateway.control() as client:
        assert requests_total(await scrape(client)) == 13


async def test_the_latch_shows(gateway: Gateway) -> None:
    """The cutover gauge follows the page itself, not what control remembers of it."""
    async with gateway.control() as client:
        assert (await scrape(client))[key("gateway_cutover_engaged")] == 0
        gateway.page.engage(LatchKind.EMERGENCY, "test", "test")
        assert (await scrape(client))[key("gateway_cutover_engaged")] == 1


async def test_label_values_are_escaped(gateway: Gateway) -> None:
    """A route's name may hold what the text format treats specially."""
    gateway.report(make_observation("a", 11, make_counts(route='a"b\\c\nd')))
    async with gateway.control() as client:
        samples = await scrape(client)
    labels = {"route": 'a"b\\c\nd', "arm": "control", "code": "200", "outcome": "ok"}
    assert samples[key("gateway_requests_total", **labels)] == 1


async def test_openmetrics_is_spoken_where_it_is_asked_for(gateway: Gateway) -> None:
    """A scraper that asks for OpenMetrics gets it, and it parses."""
    gateway.report(make_observation("a", 11, make_counts()))
    async with gateway.control() as client:
        headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
        _, text = await client.ask("GET", "/metrics", headers=headers)
    assert "gateway_requests" in {family.name for family in parse_openmetrics(text)}
